"""Ranks that hold a data set as those of a sweep do, and say what memory it takes; `startup.py` starts them.

mpirun -n RANKS python benchmarks/holders.py IMAGES     (rank 0 prints the bytes of all ranks)
"""

import json
import re
import sys
from pathlib import Path

import torch

from landscape_mpi.data import Split
from landscape_mpi.mpi.communicator import open_world
from landscape_mpi.mpi.world import World
from landscape_mpi.sweeping.once import share_splits


def made(images: int) -> list[Split]:
    """Return images like those of CIFAR-10, uint8 [n, 3, 32, 32], and their classes, int64 [n]."""
    return [Split("train", torch.ones(images, 3, 32, 32, dtype=torch.uint8), torch.zeros(images, dtype=torch.int64))]


def held(world: World) -> int:
    """Return the bytes that all ranks hold: their PSS, which counts a page that n processes map as 1/n for each."""
    world.barrier()
    found = re.search(r"^Pss: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError("/proc/self/smaps_rollup has no line `Pss`; expected Linux 4.14 or later")
    return sum(world.allgather(1024 * int(found[1])))


def main() -> int:
    """Measure before and after the data; rank 0 prints both."""
    images = int(sys.argv[1])
    world = open_world()
    before = held(world)
    splits = share_splits(made(images) if world.local_rank == 0 else [], world)
    touched = sum(int(split.inputs.sum()) for split in splits)  # a page counts for a rank once the rank has read it
    figures = {"libraries": before, "data": held(world) - before, "bytes": sum(split.inputs.nbytes for split in splits)}
    world.barrier()
    if touched != figures["bytes"]:
        raise RuntimeError(f"the shared examples add up to {touched}; expected {figures['bytes']} ones")
    if world.rank == 0:
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
