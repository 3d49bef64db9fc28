"""What a figure costs: `landscape-plot` on 251 x 251 points, from the start of Python to the written PNG.

    python benchmarks/plotting.py [--runs 3] [--json FILE]

CPU seconds are user and system time of the whole process, with one thread: the medians of the runs and their range.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.metrics.registry import asked, result_names
from landscape_mpi.surface import DONE, NewSurface, create_surface, seal
from landscape_mpi.surface.schema import Rows

POINTS = 251
KINDS = ("contour", "filled", "heat", "surface")
TARGETS = {
    **dict.fromkeys([("smooth", "contour"), ("smooth", "heat")], 1.2),
    **dict.fromkeys([("chaotic", "contour"), ("chaotic", "heat")], 2.0),
}
"""The most CPU seconds that a figure should take; the others have no target."""

JOB = """\
model: {build: resnet56, checkpoint: nets/resnet56.safetensors}
data: {build: cifar10, root: data}
plane: {kind: random}
grid: {alpha: [-1, 1, 251], beta: [-1, 1, 251]}
output: {file: surface.h5}
"""

Values = NDArray[np.float64]


def smooth(x: Values, y: Values) -> Values:
    """Return a bowl with a ripple."""
    return 0.05 + 3 * x**2 + 5 * y**2 + 0.3 * np.cos(4 * x) * np.cos(3 * y)


def chaotic(x: Values, y: Values) -> Values:
    """Return noise over ten orders of magnitude, with no two points alike: the worst case of a contour plot."""
    return 10.0 ** np.random.default_rng(0).uniform(-4, 6, np.broadcast_shapes(x.shape, y.shape))


SURFACES: dict[str, Callable[[Values, Values], Values]] = {"smooth": smooth, "chaotic": chaotic}


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of one process."""

    cpu: float
    wall: float


def write(path: Path, loss: Callable[[Values, Values], Values]) -> Path:
    """Write a finished surface of the loss."""
    axis = np.linspace(-1, 1, POINTS)
    direction = [Rows("weight", (1, 1), [np.ones((1, 1), np.float32)])]
    results = result_names(("train",), asked(("loss",)))
    create_surface(
        path,
        NewSurface(
            (axis, axis),
            results,
            (direction, direction),
            JOB,
            {"seed": 0},
        ),
    )
    with h5py.File(path, "r+") as file:  # point by point, as a sweep does, would take longer than all figures
        for name in results:
            file[name][...] = loss(axis[None, :], axis[:, None])
        file["seconds"][...], file["rank"][...] = 0.1, 0
        file["status"][...] = DONE
    seal(path)
    return path


def run(command: Sequence[str | Path]) -> Cost:
    """Run a command to its end, on one thread."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def costs(command: Sequence[str | Path], runs: int) -> dict[str, float]:
    """Return the median and the range of what a command takes, in seconds."""
    found = [run(command) for _ in range(runs)]
    cpu = [cost.cpu for cost in found]
    return {"cpu": median(cpu), "least": min(cpu), "most": max(cpu), "wall": median(cost.wall for cost in found)}


def measure(runs: int, folder: Path) -> dict[str, Any]:
    """Return all figures: plain numbers, lists and strings, in seconds."""
    python, plot = sys.executable, Path(sys.executable).with_name("landscape-plot")
    figures: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    for name, loss in SURFACES.items():
        surface = write(folder / f"{name}.h5", loss)
        for kind in KINDS:
            cost = costs([plot, surface, "--kind", kind, "-o", folder / "figure.png"], runs)
            target = {"target": TARGETS[name, kind]} if (name, kind) in TARGETS else {}
            figures.append({"surface": name, "kind": kind, **cost, **target})
    pages = {
        "landscape-plot --help": costs([plot, "--help"], runs),
        "python -m landscape_mpi --help": costs([python, "-m", "landscape_mpi", "--help"], runs),
    }
    return {"points": POINTS, "runs": runs, "cores": os.cpu_count() or 1, "load": load, "figures": figures, **pages}


def table(found: dict[str, Any]) -> str:
    """Return the figures as a page of text."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    size = f"{found['points']} x {found['points']} points"
    yield f"{size}, {found['runs']} runs, {found['cores']} cores, load {found['load']:.1f}"
    yield f"{'':32} CPU s       range     wall s  target"
    for row in found["figures"]:
        yield figure_row(row)
    for page in ("landscape-plot --help", "python -m landscape_mpi --help"):
        yield _row(page, found[page])


def figure_row(row: dict[str, Any]) -> str:
    """Return the line of a figure, held against its target where it has one."""
    line = _row(f"{row['surface']} {row['kind']}", row)
    if "target" not in row:
        return line
    return f"{line}  {row['target']:4.1f}  {'met' if row['cpu'] <= row['target'] else 'missed'}"


def _row(name: str, row: dict[str, float]) -> str:
    return f"{name:32} {row['cpu']:5.2f}  {row['least']:5.2f}-{row['most']:5.2f}  {row['wall']:8.2f}"


def main() -> int:
    """Measure, print a table, and write the figures where --json asks for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="of each figure")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = measure(options.runs, Path(folder))
    sys.stdout.write(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
