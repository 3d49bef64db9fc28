"""From launch to the first finished point, step by step; and the memory of ranks that hold the same data set.

    python benchmarks/startup.py [--ranks 1 16] [--holders 1 8] [--json FILE]

The time to the first point is that of the real command, read off its surface file. The steps are those of a second
run that is watched (`watched.py`): the wall seconds of the rank that finished the first point, its waiting for the
others included, and the CPU seconds of an average rank.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import torch
from plotting import costs
from safetensors.torch import save_file
from scaling import SETTINGS
from watched import POINT, STEPS

from landscape_mpi.networks import build_network

IMAGES = 60_000
PATIENCE = 300.0
JOB = """\
model: {build: resnet20, checkpoint: net.safetensors}
data: {build: shapes10, options: {images: 400}, limit: 64}
plane: {kind: random}
grid: {alpha: [-1, 1, 4], beta: [-1, 1, 4]}
output: {file: surface.h5}
"""

Ends = dict[str, tuple[float, float]]
"""When a rank was done with each step: seconds since the epoch, CPU seconds since its start."""


@dataclass(frozen=True)
class Step:
    """What a step of the start took: wall seconds of the rank with the first point, CPU seconds of an average rank."""

    name: str
    wall: float
    cpu: float


def prepare(folder: Path) -> None:
    """Write the job and the checkpoint it names, an untrained network."""
    torch.manual_seed(0)
    network = build_network("resnet20", {}, folder).eval()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "net.safetensors")
    (folder / "job.yaml").write_text(JOB)


def command(ranks: int, *program: str | Path) -> list[str | Path]:
    """Return what starts a Python program on that many ranks; a lone one needs no mpirun."""
    return [*(["mpirun", "-n", str(ranks)] if ranks > 1 else []), sys.executable, *program]


def real(ranks: int, folder: Path) -> dict[str, float]:
    """Run the sweep as users do; return seconds to its first point, and the CPU seconds per rank of the whole run."""
    (folder / "surface.h5").unlink(missing_ok=True)
    line = command(ranks, "-m", "landscape_mpi", "sweep", folder / "job.yaml", "--quiet")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    with subprocess.Popen(line, env=os.environ | SETTINGS, stderr=subprocess.DEVNULL) as process:
        first = first_point(folder / "surface.h5", begun + PATIENCE) - begun
        if process.wait() != 0:
            raise RuntimeError(f"the sweep ended with code {process.returncode}: {line}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"first_point": first, "whole_run": time.time() - begun, "cpu_a_rank": cpu / ranks}


def first_point(surface: Path, deadline: float) -> float:
    """Wait for the first point that is done in a surface file that need not be there yet; return when it was seen."""
    while not surface.exists():
        _pause(surface, deadline)
    with h5py.File(surface, "r", locking=False) as file:
        status = file["status"]
        place, size = status.id.get_offset(), status.size
    with surface.open("rb", buffering=0) as raw:
        while not any(os.pread(raw.fileno(), size, place)):
            _pause(surface, deadline)
    return time.time()


def _pause(surface: Path, deadline: float) -> None:
    if time.time() > deadline:
        raise TimeoutError(f"{surface}: no point was done after {PATIENCE:.0f} s")
    time.sleep(0.002)


def watched(ranks: int, folder: Path) -> list[Step]:
    """Run the sweep with its steps watched; return what each took."""
    (folder / "surface.h5").unlink(missing_ok=True)
    with TemporaryDirectory(dir=folder) as moments:
        program = Path(__file__).with_name("watched.py"), moments
        line = command(ranks, *program, "sweep", folder / "job.yaml", "--quiet")
        begun = time.time()
        subprocess.run(line, env=os.environ | SETTINGS, stderr=subprocess.DEVNULL, check=True)
        return steps(begun, [json.loads(path.read_text()) for path in Path(moments).iterdir()])


def steps(begun: float, ranks: Sequence[Ends]) -> list[Step]:
    """Return the steps from the launch at `begun` to the first point of all ranks, one after the other.

    The wall seconds add up to the time from the launch to that point.
    """
    first = min(ranks, key=lambda ends: ends[POINT][0] if POINT in ends else float("inf"))
    found, wall, cpu = [], begun, 0.0
    for name in STEPS:
        reached = [ends[name][1] for ends in ranks if name in ends]
        found.append(Step(name, first[name][0] - wall, mean(reached) - cpu))
        wall, cpu = first[name][0], mean(reached)
    return found


def memory(ranks: int) -> dict[str, int]:
    """Return the bytes of the libraries and of the data that all ranks hold together, and those of one copy."""
    line = command(ranks, Path(__file__).with_name("holders.py"), str(IMAGES))
    run = subprocess.run(line, env=os.environ | SETTINGS, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, int] = json.loads(run.stdout)
    return found


def measure(ranks: Sequence[int], holders: Sequence[int]) -> dict[str, Any]:
    """Return all figures: plain numbers, lists and strings, in seconds and bytes."""
    found: dict[str, Any] = {"cores": os.cpu_count() or 1, "load": os.getloadavg()[0]}
    found["import_torch"] = costs([sys.executable, "-c", "import torch"], 3)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        found["start"] = [
            {"ranks": count, **real(count, folder), "steps": [vars(step) for step in watched(count, folder)]}
            for count in ranks
        ]
    found["images"] = IMAGES
    found["memory"] = [{"ranks": count, **memory(count)} for count in holders]
    return found


def table(found: dict[str, Any]) -> str:
    """Return the figures as a page of text."""
    return "\n".join([*_head(found), "", *_starts(found["start"]), "", *_memory(found)]) + "\n"


def _head(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['cores']} cores, load {found['load']:.1f} before; one thread per rank"
    alone = found["import_torch"]
    yield f"`import torch` alone: {alone['wall']:.2f} s, {alone['cpu']:.2f} s of CPU"


def _starts(starts: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"{'ranks':28}" + "".join(f"{start['ranks']:16}" for start in starts)
    yield f"{'':28}" + "".join(f"{'wall s':>9}{'CPU s':>7}" for _ in starts)
    for number, step in enumerate(STEPS):
        rows = (start["steps"][number] for start in starts)
        yield f"{step:28}" + "".join(f"{row['wall']:9.2f}{row['cpu']:7.2f}" for row in rows)
    sums = ([sum(step[what] for step in start["steps"]) for what in ("wall", "cpu")] for start in starts)
    yield f"{'together':28}" + "".join(f"{wall:9.2f}{cpu:7.2f}" for wall, cpu in sums)
    yield f"{'unwatched, to first point':28}" + "".join(f"{start['first_point']:9.2f}{'':7}" for start in starts)
    ends = "".join(f"{start['whole_run']:9.2f}{start['cpu_a_rank']:7.2f}" for start in starts)
    yield f"{'unwatched, whole small run':28}{ends}"


def _memory(found: dict[str, Any]) -> Iterator[str]:
    size = found["memory"][0]["bytes"]
    yield f"{found['images']:,} examples of {size / 1e6:.0f} MB, held by all ranks together (PSS):"
    for row in found["memory"]:
        copies = row["data"] / row["bytes"]
        yield (
            f"{row['ranks']:3} ranks: data {row['data'] / 1e6:6.0f} MB ({copies:.2f} copies), "
            f"libraries {row['libraries'] / 1e6:6.0f} MB"
        )


def main() -> int:
    """Measure, print a table, and write the figures where --json asks for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=(1, 16), help="of the sweeps")
    parser.add_argument("--holders", type=int, nargs="+", default=(1, 8), help="ranks that hold the data set")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if shutil.which("mpirun") is None and max(*options.ranks, *options.holders) > 1:
        parser.error("there is no mpirun on PATH; `make setup` brings one, and tools/run.sh finds it.")
    found = measure(options.ranks, options.holders)
    sys.stdout.write(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
