"""Says how complete a surface is, which commands fill what it lacks, and how far a run has got by now.

For scripts that start a run again after a death, one number that grows with everything that is done:

python -m landscape_mpi.surface.status sweep job.yaml --shard 3/8
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from landscape_mpi.errors import UserError
from landscape_mpi.job import FROM_PYTHON, SweepJob, TrainJob, load_job
from landscape_mpi.surface.journal import journal_folder
from landscape_mpi.surface.platforms import parse_platform, recorded_platform
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE
from landscape_mpi.surface.shards import Shard, coarse_to_fine, parse_shard, recorded_shard


def state(surface: Surface) -> str:
    """Return e.g. `312 of 625 done, 2 failed (incomplete: 311 to do)`."""
    shard = recorded_shard(surface.attributes.get("shard"))
    failed = f", {surface.failed} failed" if surface.failed else ""
    if shard:
        todo = lacking(surface, [shard])[0]
        share = f"shard {shard}: {f'{todo} to do' if todo else 'complete'}"
        return f"{surface.done} of {surface.points} done{failed} ({share})"
    left = "error bars still to narrow" if surface.filled else f"{surface.points - surface.done} to do"
    verdict = "complete" if surface.complete else f"incomplete: {left}"
    return f"{surface.done} of {surface.points} done{failed} ({verdict})"


def without_numbers(count: int) -> str:
    """Return what to say of points that their file says are done and that nobody can have computed."""
    points = "1 point is" if count == 1 else f"{count} points are"
    return (
        f"{points} marked as done without the numbers that every computed point has, as after a power cut or in a torn "
        "copy; not counted as done"
    )


LAST_DIGITS = "their last digits may differ by that; `info` says how many are whose"
"""What it means that points were computed on different machines, or with different libraries."""


def known_platforms(surface: Surface) -> list[dict[str, str]]:
    """Return the platforms that computed the points of a surface, as far as its file says."""
    if not surface.done:
        return []
    return [parse_platform(text) for text in surface.platforms] or [recorded_platform(surface.attributes)]


def lacking(surface: Surface, shards: Sequence[Shard]) -> list[int]:
    """Return how many points of each shard are not done."""
    todo = [surface.status[index] != DONE for index in coarse_to_fine(surface.shape)]
    return [sum(shard.of(todo)) for shard in shards]


def remedies(surface: Surface) -> Iterator[str]:
    """Yield the commands that compute what a surface lacks, with how much that is; nothing where it is complete."""
    name = str(surface.attributes.get("job_name", "job.yaml"))
    command = f"python -m landscape_mpi sweep {shlex.quote(name)}"
    own, count = recorded_shard(surface.attributes.get("shard")), surface.attributes.get("shards")
    if surface.complete or surface.job is None:
        return
    if name == FROM_PYTHON:
        yield f"{FROM_PYTHON}(..., output={str(surface.path)!r}) with the arguments that it was begun with"
        return
    # no attribute of a file can ask for more shards than there are points
    all_shards = [Shard(i, count) for i in range(min(count, surface.points))] if isinstance(count, int) else []
    shards = [own] if own else all_shards
    if surface.filled or not shards:
        yield command
        return
    for shard, todo in zip(shards, lacking(surface, shards), strict=True):
        if todo:
            yield f"{command} --shard {shard}    # {todo} points"


def progress(arguments: Sequence[str]) -> int:
    """Return a number that grows with every point, slice of examples or epoch that is done.

    Args:
        arguments: of `python -m landscape_mpi`: sweep JOB [--shard I/N], or train JOB...

    Raises:
        UserError: a job cannot be read.
    """
    command, *rest = arguments
    if command == "train":
        jobs = [load_job(Path(name), TrainJob) for name in rest]
        folders = [job.resolve(job.values.train.output) for job in jobs]
        return sum(file.name.startswith("epoch-") for folder in folders if folder.is_dir() for file in folder.iterdir())
    shard = parse_shard(rest[rest.index("--shard") + 1], os.environ) if "--shard" in rest else None
    job = load_job(Path(rest[0]), SweepJob)
    output, repeats = job.resolve(job.values.output.file), getattr(job.values.plane, "repeats", 1)
    names = [output]
    if repeats > 1:
        names = [output.with_name(f"{output.stem}.r{n}{output.suffix}") for n in range(repeats)]
    total = 0
    for surface in (shard.path(name) if shard else name for name in names):
        folder = journal_folder(surface)  # beside a sampled sweep's surface
        total += sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
        if surface.exists():
            with h5py.File(surface, "r", locking=False) as file:
                total += int((np.asarray(file["status"]) == DONE).sum())
    return total


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{progress(sys.argv[1:])}\n")
    except (UserError, OSError, KeyError) as error:
        sys.exit(f"error: {error}")
