"""How far a sweep or a training has got by now, as one number, for scripts that start it again after a death.

python -m landscape_mpi.surface.got sweep job.yaml --shard 3/8
"""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from landscape_mpi.errors import UserError
from landscape_mpi.job import SweepJob, TrainJob, load_job
from landscape_mpi.surface.journal import journal_folder
from landscape_mpi.surface.schema import DONE
from landscape_mpi.surface.shards import parse_shard


def got(arguments: Sequence[str]) -> int:
    """Return a number that grows with every point, slice of images or epoch that is done.

    Args:
        arguments: of `python -m landscape_mpi`: sweep JOB [--shard I/N], or train JOB...

    Raises:
        UserError: a job cannot be read.
    """
    command, *rest = arguments
    if command == "train":
        jobs = [load_job(Path(name), TrainJob) for name in rest]
        return sum(_files(job.resolve(job.values.train.output)) for job in jobs)
    shard = rest[rest.index("--shard") + 1] if "--shard" in rest else None
    return sum(map(_points, _surfaces(Path(rest[0]), shard)))


def _surfaces(path: Path, shard: str | None) -> Iterator[Path]:
    job = load_job(path, SweepJob)
    output, repeats = job.resolve(job.values.output.file), getattr(job.values.plane, "repeats", 1)
    names = (
        [output.with_name(f"{output.stem}.r{n}{output.suffix}") for n in range(repeats)] if repeats > 1 else [output]
    )
    for name in names:
        yield parse_shard(shard, os.environ).path(name) if shard else name


def _points(surface: Path) -> int:
    """Return how many points are done, and how many bytes the journals of a sampled sweep hold beside them."""
    folder = journal_folder(surface)
    journals = sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
    if not surface.exists():
        return journals
    with h5py.File(surface, "r", locking=False) as file:
        return journals + int((np.asarray(file["status"]) == DONE).sum())


def _files(folder: Path) -> int:
    return sum(file.name.startswith("epoch-") for file in folder.iterdir()) if folder.is_dir() else 0


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{got(sys.argv[1:])}\n")
    except (UserError, OSError, KeyError) as error:
        sys.exit(f"error: {error}")
