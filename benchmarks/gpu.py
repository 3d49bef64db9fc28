"""CUDA, checked and timed in one command: ceilings of the device, all ways to a point, a transformer, real sweeps.

    python benchmarks/gpu.py [--networks resnet20 resnet56] [--json FILE]
    python benchmarks/gpu.py --dry-run    all of it on the CPU at tiny sizes, to see that it runs

It needs no data and no checkpoint: weights are seeded, images random. Deviations are those of a mean loss from float64
at three points, relative to it. It ends with what it found, and with exit code 1 where a check failed. (Its name is not
cuda.py, because PyTorch imports a module `cuda` where there is one, and would find it for every benchmark here.)
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from gpu_large import measure_large
from gpu_ways import Scale, Subject, Way, ceilings, dtypes, precision, seconds

from landscape_mpi.assemble import use_device
from landscape_mpi.engines import LANES
from landscape_mpi.log import console
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import read_surface
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep

POINTS = ((0.0, 0.0), (0.3, -0.2), (-1.0, 1.0))
LIMIT = 1e-5
"""Of a float32 mean loss's deviation from float64, and from that of a CPU."""
KEPT = ("device", "dtype", "engine", "batch", "precision_error")
JOB = """
model: {{build: resnet20, checkpoint: net.pt}}
data: {{build: shapes10, options: {{images: {images}}}, splits: [test]}}
plane: {{kind: random}}
grid: {{alpha: [-1, 1, 3], beta: [-1, 1, 3]}}
evaluate: {{dtype: {dtype}}}
output: {{file: {name}.h5}}
"""


def real(device: torch.device) -> Scale:
    """Return what is measured on a CUDA device."""
    return Scale(device, 16384, (64, 256, 1024, 4096), 512, 5, 8192, 1 << 30, 512)


def tiny() -> Scale:
    """Return what a dry run does on a CPU."""
    return Scale(torch.device("cpu"), 40, (16,), 16, 1, 64, 1 << 16, 16)


def measure_network(name: str, scale: Scale, peaks: dict[str, float]) -> dict[str, Any]:
    """Return the rows of all ways in all precisions, and examples per second by batch."""
    subject = Subject.of(name, scale)
    exact = [subject.exact()(point).losses.mean() for point in POINTS]
    rows = []
    for dtype in dtypes(scale.device):
        with precision(dtype):
            rows += list(_rows(subject, dtype, exact, peaks[dtype]))
    by_batch = {batch: _speed(subject.ways("float32", batch)[_graph(LANES)](), scale) for batch in scale.batches}
    return {"mflop": subject.flops / 1e6, "rows": rows, "images_a_second_by_batch": by_batch}


def _rows(subject: Subject, dtype: str, exact: list[float], peak: float) -> Iterator[dict[str, Any]]:
    """Yield the figures of each way in one precision; bits are those of the first fused way."""
    first: dict[str, list[bytes]] = {}
    for name, build in subject.ways(dtype, subject.scale.batch).items():
        row: dict[str, Any] = {"dtype": dtype, "way": name}
        try:
            way = build()
            bits = [way(point).losses.tobytes() for point in POINTS]
            again = [way(point).losses.tobytes() for point in POINTS]
            speed = _speed(way, subject.scale)
            row["deviation"] = _deviation(way, exact, subject.scale, name)
        except RuntimeError as error:  # an operation that this PyTorch or this device lacks
            yield row | {"failed": str(error).partition("\n")[0]}
            continue
        expected = first.setdefault("fused", bits) if _is_fused(name) else bits
        row |= {"images_a_second": speed, "tflops": speed * subject.flops / 1e12, "bits": bits == again == expected}
        yield row | {"of_ceiling": row["tflops"] / peak}


def _is_fused(name: str) -> bool:
    return name.startswith("fused")


def _graph(lanes: int) -> str:
    return f"fused, graph x {lanes}"


def _speed(way: Way, scale: Scale) -> float:
    """Return examples per second at a point."""
    return scale.images / seconds(scale.device, scale.rounds, lambda: way(POINTS[1]))


def _deviation(way: Way, exact: list[float], scale: Scale, name: str) -> float:
    """Return the largest relative deviation of the mean loss of a few examples; as it is, a network stays at theta."""
    points = zip(POINTS[:1] if name.startswith("as it is") else POINTS, exact, strict=False)
    return float(max(abs(way(point).losses[: scale.exact].mean() / loss - 1) for point, loss in points))


def real_sweeps(scale: Scale) -> list[dict[str, Any]]:
    """Sweep nine points as users do, in every precision, and on the CPU; return what the surfaces say."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(Subject.of("resnet20", tiny()).network.state_dict(), folder / "net.pt")
        runs = [("cpu", "float32", "cpu"), *((dtype, dtype, scale.device.type) for dtype in dtypes(scale.device))]
        found = []
        for run, dtype, device in runs:
            (folder / f"{run}.yaml").write_text(JOB.format(images=max(64, scale.exact), dtype=dtype, name=run))
            said = StringIO()
            with redirect_stderr(said), console(progress=False):
                sweep(folder / f"{run}.yaml", Options(device=device), Solo())
            found.append(_surface(folder, run, said.getvalue()))
    return found


def _surface(folder: Path, run: str, said: str) -> dict[str, Any]:
    losses, of_cpu = (read_surface(folder / f"{name}.h5").metrics["test_loss"] for name in (run, "cpu"))
    attributes = read_surface(folder / f"{run}.h5").attributes
    kept = {key: attributes[key] for key in KEPT if key in attributes}
    notes = [line for line in said.splitlines() if line.startswith(("engine", "note"))]
    return kept | {"deviation_from_cpu": float(np.max(np.abs(losses / of_cpu - 1))), "said": notes}


def verdicts(report: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield whether each check held, and what was found."""
    for name, found in report["networks"].items():
        rows = [row for row in found["rows"] if "failed" not in row]
        broken = [f"{row['dtype']} {row['way']}" for row in rows if not row["bits"]]
        yield not broken, f"{name}: bits differ between replays or lanes: {', '.join(broken) or 'nowhere'}"
        exact = [row for row in rows if row["dtype"] == "float32"]
        worst = max(row["deviation"] for row in exact)
        yield worst <= LIMIT, f"{name}: float32 deviates from float64 by up to {worst:.1e} (allowed {LIMIT:.0e})"
        yield True, _fastest(name, exact)
    yield from _verdicts_of_large(report["transformer"])
    for one in report["sweeps"]:
        if one["dtype"] == "float32":
            deviation = one["deviation_from_cpu"]
            yield deviation <= LIMIT, f"sweep on {one['device']}: deviates from the CPU's by up to {deviation:.1e}"


def _verdicts_of_large(found: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    broken = [row["way"] for row in found["rows"] if not row["bits"]]
    yield not broken, f"transformer: bits differ between ways: {', '.join(broken) or 'nowhere'}"
    same = "those" if found["weights_of_a_cpu"] else "not those"
    yield found["weights_of_a_cpu"], f"transformer: the bits of rebuilt weights are {same} of a CPU"


def _fastest(name: str, rows: list[dict[str, Any]]) -> str:
    speeds = {row["way"]: row["images_a_second"] for row in rows}
    best = max(speeds, key=lambda way: speeds[way])
    default = speeds[_graph(LANES)]
    return (
        f"{name}: fastest in float32 is `{best}`, {speeds[best] / speeds['eager']:.2f} times eager; what a sweep "
        f"takes, `{_graph(LANES)}`, is {default / speeds['eager']:.2f} times eager"
    )


def table(report: dict[str, Any]) -> Iterator[str]:
    """Yield the report as lines of text."""
    peaks = report["ceilings"]
    matmul = ", ".join(f"{name} {peak:.3g}" for name, peak in peaks.items() if name != "copy")
    yield f"{report['device']}, torch {report['torch']}: copy {peaks['copy']:.4g} GB/s, matmul TFLOP/s: {matmul}"
    for name, found in report["networks"].items():
        yield f"\n{name}, {found['mflop']:.1f} MFLOP per example"
        yield f"{'':29}examples/s  TFLOP/s  of matmul  deviation  same bits"
        yield from map(_line, found["rows"])
        speeds = ", ".join(f"{batch}: {speed:,.0f}" for batch, speed in found["images_a_second_by_batch"].items())
        yield f"examples/s by batch, float32, {_graph(LANES)}: {speeds}"
    large = report["transformer"]
    yield f"\ntransformer, {large['parameters'] / 1e6:.4g} M parameters, {large['tokens']:,} tokens per point, float32"
    yield f"{'':29}ms per point  of plain  same bits"
    for row in large["rows"]:
        yield f"{row['way']:29}{row['seconds'] * 1e3:10.1f}{row['of_plain']:10.3f}  {'yes' if row['bits'] else 'NO'}"
    yield "\nreal sweeps of ResNet-20, nine points"
    for one in report["sweeps"]:
        cost = f", precision_error {one['precision_error']:.1e}" if "precision_error" in one else ""
        head = f"{one['device']}: {one['dtype']}, batch {one['batch']}"
        yield f"{head}, from the CPU {one['deviation_from_cpu']:.1e}{cost}"
        yield from (f"    {line}" for line in one["said"])
    yield ""
    yield from (f"{'ok    ' if held else 'FAILED'} {text}." for held, text in verdicts(report))


def _line(row: dict[str, Any]) -> str:
    head = f"{row['dtype']:9}{row['way']:20}"
    if "failed" in row:
        return f"{head}  failed: {row['failed']}"
    figures = f"{row['images_a_second']:10,.0f}{row['tflops']:9.3g}{row['of_ceiling']:11.1%}{row['deviation']:11.1e}"
    return f"{head}{figures}  {'yes' if row['bits'] else 'NO'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON where asked; 1 where a check failed."""
    parser = argparse.ArgumentParser(description="Check and time CUDA: ceilings, engines, precisions, real sweeps.")
    parser.add_argument("--networks", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU at tiny sizes; its times mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if not options.dry_run and not torch.cuda.is_available():
        sys.stdout.write("PyTorch sees no CUDA device here, so nothing was measured.\n")
        return 0
    scale = tiny() if options.dry_run else real(use_device("cuda:0"))
    peaks = ceilings(scale)
    report = {
        "device": "CPU, dry run" if options.dry_run else torch.cuda.get_device_name(scale.device),
        "torch": torch.__version__,
        "ceilings": peaks,
        "networks": {name: measure_network(name, scale, peaks) for name in options.networks},
        "transformer": measure_large(scale, POINTS),
        "sweeps": real_sweeps(scale),
    }
    sys.stdout.write("\n".join(table(report)) + "\n")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if all(held for held, _ in verdicts(report)) else 1


if __name__ == "__main__":
    sys.exit(main())
