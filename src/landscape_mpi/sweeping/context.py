"""A surface file and an engine, ready for points: what every way to fill a surface is given; does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from landscape_mpi.errors import Exit
from landscape_mpi.job import SweepJob
from landscape_mpi.log import log
from landscape_mpi.mpi.world import World
from landscape_mpi.surface import DONE, Surface, coarse_to_fine
from landscape_mpi.sweeping.choose_engine import Engine
from landscape_mpi.sweeping.curvature import Curvature
from landscape_mpi.sweeping.deaths import note_of
from landscape_mpi.sweeping.experiment import Experiment
from landscape_mpi.sweeping.point import Attempts, Grid, Index
from landscape_mpi.sweeping.resume import Identity


def visits(job: SweepJob, identity: Identity) -> list[Index]:
    """Return the grid indices of a run, all or those of its shard, coarse to fine."""
    every = coarse_to_fine(job.chosen_grid.shape)
    return identity.shard.of(every) if identity.shard else every


MOST_NAMED = 10
"""Failed points that are named at the end."""
GO_ON = "what is done is kept: run the same command again to go on."


@dataclass(frozen=True)
class Ready:
    """One plane of a job.

    Attributes:
        world: The ranks.
        experiment: Network, data and job.
        identity: What fixes every number of the surface.
        path: The surface file, which exists.
        folder: Where the journals of sampled sweeps are, those of all shards together.
        found: The surface as it was found; None where it was created just now.
        engine: What evaluates points.
        batch: Images at a time, fixed with the file.
        stream: Where progress is shown; None for nowhere.
        tolerant: Whether a point that raises twice is marked failed and the sweep goes on.
        curvature: What finds the Hessian's eigenvalues at a point; None where nothing asks for them at every point.
        through_root: Whether rank 0 alone sees the file and writes for all.
        verbose: Whether the traceback of the user's own code is told as well.
        makers: Of each rank its number in the file's list of who computed points; none in an old file.
        elsewhere: What to note at points where there is no such list and others were computed otherwise.
    """

    world: World
    experiment: Experiment
    identity: Identity
    path: Path
    folder: Path
    found: Surface | None
    engine: Engine
    batch: int
    stream: TextIO | None
    tolerant: bool
    curvature: Curvature | None = None
    through_root: bool = False
    verbose: bool = False
    makers: Sequence[int] = ()
    elsewhere: str = ""

    @property
    def job(self) -> SweepJob:
        """The values of the job."""
        return self.experiment.job.values

    @property
    def attempts(self) -> Attempts:
        """Evaluations on this rank."""
        grid = Grid.of(self.job.chosen_grid)
        evaluator, deaths = self.engine.evaluator, note_of(self.path)
        return Attempts(self.world, evaluator, grid, self.batch, deaths, self.verbose, self.elsewhere)

    @property
    def visits(self) -> list[Index]:
        """The grid indices of this run, all or those of its shard, coarse to fine."""
        return visits(self.job, self.identity)

    @property
    def missing(self) -> list[Index]:
        """Those without a result."""
        return [index for index in self.visits if self.found is None or self.found.status[index] != DONE]

    def stopped(self) -> Exit:
        """Say that the surface is not complete and how to go on; collective."""
        reasons = [reason for reason in self.world.allgather(self.experiment.stop.reason) if reason]
        log(self.world, f"{self.path}: stopped by {reasons[0] if reasons else 'a rank'}; {GO_ON}")
        return Exit.RUN_AGAIN

    def some_failed(self, texts: list[str]) -> Exit:
        """Name the points that raised twice or at which ranks died twice, and say how to try them again."""
        for text in texts[:MOST_NAMED]:
            log(self.world, f"failed: {text.partition(chr(10))[0]}")
        more = f" ({len(texts) - MOST_NAMED} not named here)" if len(texts) > MOST_NAMED else ""
        count = f"{len(texts)} point{'s' if len(texts) > 1 else ''}"
        log(self.world, f"{self.path}: complete but for {count} that failed twice{more}; the next run tries again.")
        return Exit.FAILED_POINTS

    def tell_whole(self, split: str, why: str) -> None:
        """Say why nothing can be saved on a split."""
        log(self.world, f"note: {split}: all images at every point: {why}.")
