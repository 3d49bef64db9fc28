"""How complete a surface is, and the commands that fill what it lacks; reads no file."""

import shlex
from collections.abc import Iterator, Sequence

from landscape_mpi.job import FROM_PYTHON
from landscape_mpi.surface.makers import of_attributes, parse
from landscape_mpi.surface.order import coarse_to_fine
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE
from landscape_mpi.surface.shards import Shard, recorded_shard


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


def _all_shards(count: object, points: int) -> list[Shard]:
    """Return the shards that may have points: no attribute of a file can ask for more of them than there are points."""
    return [Shard(i, count) for i in range(min(count, points))] if isinstance(count, int) else []


def without_numbers(count: int) -> str:
    """Return what to say of points that their file says are done and that nobody can have computed."""
    points = "1 point is" if count == 1 else f"{count} points are"
    return (
        f"{points} marked as done without the numbers that every computed point has, as after a power cut or in a torn "
        "copy; not counted as done"
    )


LAST_DIGITS = "their last digits may differ by that; `info` says how many are whose"
"""What it means that points were computed on different machines, or with different libraries."""


def known_makers(surface: Surface) -> list[dict[str, str]]:
    """Return who computed the points of a surface that are done, as far as its file says."""
    if not surface.done:
        return []
    return [parse(text) for text in surface.makers] or [of_attributes(surface.attributes)]


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
    shards = [own] if own else _all_shards(count, surface.points)
    if surface.filled or not shards:
        yield command
        return
    for shard, todo in zip(shards, lacking(surface, shards), strict=True):
        if todo:
            yield f"{command} --shard {shard}    # {todo} points"
