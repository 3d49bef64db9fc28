"""Builds the plane of a sweep, one module for each `plane.kind`: what all of them are given, and what they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landscape_mpi.mpi.world import World
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.planes.trajectory import Run


@dataclass(frozen=True)
class Request:
    """What a plane is built from, beside its section of the job.

    Attributes:
        world: the ranks, which build the plane together.
        experiment: network, data and job.
        run: the checkpoints of `plane.trajectory`, on rank 0; None where the job names none, and on all other ranks.
        known: the file of the surface to go on with, if it exists; None to start afresh.
        output: where the surface of the whole grid goes; what is kept on the way to the plane lies beside it.
    """

    world: World
    experiment: Experiment
    run: Run | None
    known: Path | None = None
    output: Path = Path()

    @property
    def here(self) -> bool:
        """Whether this rank makes directions that are held: of a large network one rank per node does."""
        return self.world.local_rank == 0 or not self.experiment.theta.is_large


@dataclass(frozen=True)
class Built:
    """A plane, the same on every rank, and what was found on the way to it.

    Attributes:
        plane: theta*, the directions, and the buffers that move along; None where this rank does not make them.
        facts: numbers about the directions, by the names of the surface's attributes.
        explained: the components' shares of the variance, known on rank 0; empty where there are no components.
    """

    plane: Plane | None
    facts: Mapping[str, float] = field(default_factory=dict)
    explained: tuple[float, ...] = ()
