"""Holds what the sweep of one plane is made of: ranks, flags, job, plane, engine and surface file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Exit
from landscape_mpi.evaluate import Point
from landscape_mpi.job import SweepJob
from landscape_mpi.log import log, note
from landscape_mpi.mpi.world import World
from landscape_mpi.plane import Plane
from landscape_mpi.surface import DONE, Shard, Surface, coarse_to_fine
from landscape_mpi.surface.identity import Identity
from landscape_mpi.sweeping.choose_engine import Engine
from landscape_mpi.sweeping.curvature import Curvature
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.on_point import OnPoint, PointDone, Value, tell
from landscape_mpi.sweeping.unfinished import Unfinished

Index = tuple[int, ...]
"""(iy, ix) of a plane, (ix,) of a line."""
GO_ON = "what is done is kept: run the same command again to go on."
MOST_NAMED = 10
"""Failed points that are named at the end."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The flags of a sweep; only `settings` are part of the experiment, because they change its job.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:K`.
        overwrite: Whether another sweep's file is replaced.
        shard: `I/N`, the share of the points that this run computes; None for all.
        time_limit: Seconds after which the sweep stops by itself.
        tolerant: Whether a point that raises twice is marked failed and the sweep goes on.
        through_root: Whether rank 0 alone sees the file and writes for all.
        group: How many consecutive ranks hold one network together, and evaluate each point together; None: each rank
            holds networks alone, in the way that suits their size.
        verbose: Whether the traceback of the user's own code is shown as well.
        on_point: Called on rank 0 with each point that is done; None where nothing is to be called.
        settings: `KEY=VALUE`, in place of what the job file says.
    """

    device: str = "auto"
    overwrite: bool = False
    shard: str | None = None
    time_limit: float | None = None
    tolerant: bool = False
    through_root: bool = False
    group: int | None = None
    verbose: bool = False
    on_point: OnPoint | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """The sweep of one plane of a job into one surface file.

    Attributes:
        world: The ranks.
        options: The operational flags.
        experiment: Network, data and job.
        plane: The plane.
        identity: What fixes every number of the surface.
        path: The surface file, which exists.
        journals: The folder where the journals of sampled sweeps lie, those of all shards together.
        found: The surface as it was found; None where it was created just now.
        engine: What evaluates points.
        batch: Examples at a time, fixed with the file.
        floor: The precision floor of a surface that was created just now, where it was measured.
        curvature: What computes the Hessian's results at a point; None where nothing asks for them at every point.
        unfinished: Where products of points are kept until the points are done; None where no products are kept.
        platforms: The number of each rank's platform in the file's list of them; empty where an old file has no list.
        platform_note: What to record at points where there is no such list and other points have another platform.
    """

    world: World
    options: Options
    experiment: Experiment
    plane: Plane
    identity: Identity
    path: Path
    journals: Path
    found: Surface | None
    engine: Engine
    batch: int
    floor: float | None = None
    curvature: Curvature | None = None
    unfinished: Unfinished | None = None
    platforms: Sequence[int] = ()
    platform_note: str = ""

    @property
    def job(self) -> SweepJob:
        """The values of the job, with the grid chosen."""
        return self.experiment.job.values

    @property
    def points(self) -> list[Index]:
        """The grid indices of this run, all or those of its shard, coarse to fine."""
        return points_of(self.job, self.identity.shard)

    @property
    def missing(self) -> list[Index]:
        """The grid indices of this run that have no result."""
        return [index for index in self.points if self.found is None or self.found.status[index] != DONE]

    def log_all_examples(self, split: str, why: str) -> None:
        """Say why all examples of a split are evaluated at every point of a sampled sweep."""
        note(self.world, f"{split}: all examples at every point: {why}.")

    def tell(self, index: Index, values: Mapping[str, Value], done: int) -> None:
        """Call the user's `on_point`, if there is one, with a point that is done.

        Raises:
            UserError: `on_point` raised.
        """
        if self.options.on_point is not None:
            place = point_at(self.job.chosen_grid.coordinates(), index)
            tell(self.options.on_point, PointDone(index, place, values, done, len(self.points)))


def point_at(axes: Sequence[NDArray[np.float64]], index: Index) -> Point:
    """Return the point at (ix,) of a line, (iy, ix) of a plane, ...; `axes`: coordinates along alpha, beta, ..."""
    return tuple(float(at[i]) for at, i in zip(axes, reversed(index), strict=True))


def number_of(context: SweepContext, index: Index) -> int:
    """Return the number of a point in the grid, row by row."""
    return int(np.ravel_multi_index(index, context.job.chosen_grid.shape))


def points_of(job: SweepJob, shard: Shard | None) -> list[Index]:
    """Return the grid indices of a run, all or those of its shard, coarse to fine."""
    every = coarse_to_fine(job.chosen_grid.shape)
    return shard.of(every) if shard else every


def stopped(context: SweepContext) -> Exit:
    """Say that the surface is not complete and how to go on; collective."""
    reasons = [reason for reason in context.world.allgather(context.experiment.stop.reason) if reason]
    log(context.world, f"{context.path}: stopped by {reasons[0] if reasons else 'a rank'}; {GO_ON}")
    return Exit.RUN_AGAIN


def some_failed(context: SweepContext, texts: list[str]) -> Exit:
    """Name the points that raised twice or at which ranks died twice, and say how to try them again."""
    for text in texts[:MOST_NAMED]:
        log(context.world, f"failed: {text.partition(chr(10))[0]}")
    more = f" ({len(texts) - MOST_NAMED} not named here)" if len(texts) > MOST_NAMED else ""
    count = f"{len(texts)} point{'s' if len(texts) > 1 else ''}"
    log(context.world, f"{context.path}: complete but for {count} that failed twice{more}; the next run tries again.")
    return Exit.FAILED_POINTS
