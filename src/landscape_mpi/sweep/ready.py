"""A surface file and an engine, ready for points: what every way to fill a surface is given; does nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from landscape_mpi.job import SweepJob
from landscape_mpi.ranks import World, tell
from landscape_mpi.surface import DONE, Surface
from landscape_mpi.sweep.attempt import Attempts, Grid, Index
from landscape_mpi.sweep.engine import Engine
from landscape_mpi.sweep.experiment import Experiment
from landscape_mpi.sweep.order import coarse_to_fine
from landscape_mpi.sweep.output import Identity


@dataclass(frozen=True)
class Ready:
    """One plane of a job.

    Attributes:
        world: The ranks.
        experiment: Network, data and job.
        identity: What fixes every number of the surface.
        path: The surface file, which exists.
        found: The surface as it was found; None where it was created just now.
        engine: What evaluates points.
        batch: Images at a time, fixed with the file.
        stream: Where progress is shown; None for nowhere.
    """

    world: World
    experiment: Experiment
    identity: Identity
    path: Path
    found: Surface | None
    engine: Engine
    batch: int
    stream: TextIO | None

    @property
    def job(self) -> SweepJob:
        """The values of the job."""
        return self.experiment.job.values

    @property
    def attempts(self) -> Attempts:
        """Evaluations on this rank."""
        return Attempts(self.world, self.engine.evaluator, Grid.of(self.job.grid), self.batch)

    @property
    def visits(self) -> list[Index]:
        """All grid indices, coarse to fine."""
        return coarse_to_fine(self.job.grid.shape)

    @property
    def missing(self) -> list[Index]:
        """The grid indices without a result, coarse to fine."""
        return [index for index in self.visits if self.found is None or self.found.status[index] != DONE]

    def tell_whole(self, split: str, why: str) -> None:
        """Say why nothing can be saved on a split."""
        tell(self.world, f"note: {split}: all images at every point: {why}.")
