"""What it costs a rank to hand over to the disk what it wrote since the last time; for `faults.py`."""

import time
from pathlib import Path
from statistics import median

import numpy as np

from landscape_mpi.files.atomic import EVERY, Disk
from landscape_mpi.metrics.registry import asked, result_names
from landscape_mpi.surface import NewSurface, Record, create_surface
from landscape_mpi.surface.write import RootWriter

RESULTS = result_names(("train", "test"), asked(("loss", "accuracy")))
SIDE = 51
CALLS = 30


def cost(folder: Path) -> list[dict[str, float]]:
    """Return seconds a call for some numbers of points written before it, and their share of the time between two."""
    surface = folder / "disk.h5"
    axis = np.linspace(-1, 1, SIDE)
    create_surface(surface, NewSurface((axis,) if axis is None else (axis, axis), RESULTS, ([],), ""))
    return [_cost(surface, writes) for writes in (1, 30, 1000)]


def _cost(surface: Path, writes: int) -> dict[str, float]:
    writer, disk = RootWriter(surface, root=True), Disk(surface)
    seconds = []
    for call in range(CALLS):
        for number in range(writes):
            index = (7 * number + call) % SIDE, (number // SIDE + 3 * call) % SIDE
            writer.at_root(Record(index, dict.fromkeys(RESULTS, float(call)), 0, 1.0))
        begun = time.perf_counter()
        disk.hand_over()
        seconds.append(time.perf_counter() - begun)
    writer.finish(_nobody, complete=False)
    disk.close()
    middle = median(seconds)
    return {"writes": writes, "median": middle, "worst": max(seconds), "calls": CALLS, "share": middle / EVERY}


def _nobody() -> None:
    """Meet nobody."""
