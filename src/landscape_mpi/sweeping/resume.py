"""Finds the surface file that a sweep goes on with, or says what a new one holds; rank 0 alone calls this."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from landscape_mpi.engines import DELETED, ENGINES
from landscape_mpi.errors import Flag, Key, UserError
from landscape_mpi.job import SweepJob
from landscape_mpi.metrics.names import result_names
from landscape_mpi.plane import GENERATOR, Parameters, Plane
from landscape_mpi.plane.plane import real, single
from landscape_mpi.surface.identity import CENTRE, check_whole, first_difference
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import Direction, NewSurface
from landscape_mpi.surface.shards import Shard, recorded_shard
from landscape_mpi.surface.trajectory import Trajectory
from landscape_mpi.sweeping.load import Experiment


@dataclass(frozen=True)
class Identity:
    """What fixes every number of a surface beside the keys of its job: the fingerprints of what these point at.

    Attributes:
        seed: By which the plane's directions are drawn; -1 where nothing is drawn.
        fingerprints: Of checkpoint, data, plane and trajectory, by the names of the surface's attributes.
        shard: Which share of the points the file is for; None for all.
        trajectory: The path of a training run on the plane.
        facts: Numbers that are recorded of how the plane was found.
        centre: What theta* gives of the first examples, as text.
    """

    seed: int
    fingerprints: Mapping[str, str]
    shard: Shard | None = None
    trajectory: Trajectory | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    centre: str = ""

    @property
    def recorded(self) -> Mapping[str, str]:
        """What a surface records, to be compared with."""
        return {**self.fingerprints, CENTRE: self.centre} if self.centre else self.fingerprints


def find_surface(path: Path, job: SweepJob, identity: Identity) -> Surface | None:
    """Return the surface to go on with; None where there is no file yet.

    Raises:
        UserError: the file is no surface of ours, or of another experiment; it names the first key that differs.
    """
    if not path.exists():
        return None
    surface = read_surface(path)
    check_same(surface, job, identity)
    return surface


def check_same(surface: Surface, job: SweepJob, identity: Identity) -> None:
    """Refuse to go on with a surface of another experiment, or with one that lacks what a sweep writes.

    Raises:
        UserError: as `find_surface`.
    """
    path = surface.path
    if surface.job is None:
        raise UserError("output.file", f"{path} was not written by landscape_mpi", remedy="name another file")
    reason = first_difference(surface, job, identity.recorded)
    if not reason and (shard := recorded_shard(surface.attributes.get("shard"))) != identity.shard:
        theirs, ours = (f"shard {share}" if share else "all points" for share in (shard, identity.shard))
        reason = Flag("shard"), f": it is for {theirs}, and this run is for {ours}"
    if reason:
        raise UserError(
            "output.file",
            (f"{path} holds another sweep: ", reason),
            remedy=(
                "name another ",
                Key("output.file"),
                ", or start afresh with ",
                Flag("overwrite"),
                ". Nothing was touched",
            ),
        )
    check_whole(surface, job)
    _check_recorded(surface)


def _check_recorded(surface: Surface) -> None:
    """Refuse a surface that does not say with which batch and engine it goes on."""
    batch, engine = surface.attributes.get("batch"), surface.attributes.get("engine")
    if engine in DELETED and not surface.complete:
        raise UserError(
            "output.file",
            f"{surface.path} was begun with the engine {engine}, which this version lacks",
            expected=f"one of {', '.join(ENGINES)}",
            remedy=("finish it with landscape_mpi 0.1.0, or start afresh with ", Flag("overwrite")),
        )
    if not (isinstance(batch, int) and batch >= 1 and engine in (*ENGINES, *DELETED)):
        raise UserError(
            "output.file",
            f"{surface.path} was begun with the batch {batch} and the engine {engine}",
            expected=f"a whole number >= 1 and one of {', '.join(ENGINES)}",
            remedy="the file is damaged or of another version",
        )


def new_surface(
    experiment: Experiment, plane: Plane, identity: Identity, attributes: Mapping[str, str | int | float]
) -> NewSurface:
    """Return all that a new surface file holds before its first result; `attributes`: what is recorded of the run."""
    job, statistics = experiment.job.values, plane.statistics
    recorded: dict[str, str | int | float] = {"seed": identity.seed}
    if identity.seed >= 0:
        recorded["generator"] = GENERATOR
    recorded |= {**identity.recorded, **identity.facts, **attributes, "job_name": experiment.job.path.name}
    if identity.shard:
        recorded["shard"] = str(identity.shard)
    return NewSurface(
        axes=job.chosen_grid.coordinates(),
        results=result_names(job.data.splits, experiment.task.metrics, sampled=job.sampling is not None),
        directions=tuple(map(_stored, plane.directions)),
        buffers=tuple(map(_stored, statistics.directions)) if statistics else (),
        job=experiment.job.text,
        attributes=recorded,
        trajectory=identity.trajectory,
    )


def _stored(direction: Parameters) -> Direction:
    """Return a direction as it stands in a file: float32 by name, complex numbers as pairs."""
    return [(name, real(single(tensor)).numpy()) for name, tensor in direction.items()]
