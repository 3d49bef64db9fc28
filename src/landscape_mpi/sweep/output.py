"""The surface file a sweep goes on with: created, or found to be of the same experiment; rank 0 alone calls this."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.job import JobFile, SweepJob, difference, read_job
from landscape_mpi.plane import Parameters, Plane
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import Direction, NewSurface, result_names

FINGERPRINTS = {
    "checkpoint_sha256": ("model.checkpoint", "another checkpoint"),
    "data_sha256": ("data", "other images or targets"),
    "plane_sha256": ("plane", "other directions"),
}


@dataclass(frozen=True)
class Identity:
    """What fixes every number of a surface: the job's keys and the fingerprints of what they point at."""

    job: JobFile[SweepJob]
    seed: int
    fingerprints: Mapping[str, str]


def find_surface(path: Path, identity: Identity) -> Surface | None:
    """Return the surface to go on with; None where there is no file yet.

    Raises:
        UserError: the file is no surface of ours, or of another experiment; it names the first key that differs.
    """
    if not path.exists():
        return None
    surface = read_surface(path)
    if surface.job is None:
        raise UserError(f"output.file: {path} was not written by landscape_mpi; name another file.")
    reason = _other(surface, identity)
    if reason:
        raise UserError(
            f"output.file: {path} holds another sweep: {reason}; name another output.file, or start afresh with "
            "--overwrite. Nothing was touched."
        )
    return surface


def new_surface(identity: Identity, plane: Plane, attributes: Mapping[str, str | int | float]) -> NewSurface:
    """Return all that a new surface file holds before its first result."""
    job = identity.job.values
    return NewSurface(
        alpha=job.grid.alpha.coordinates(),
        beta=None if job.grid.beta is None else job.grid.beta.coordinates(),
        results=result_names(job.data.splits, job.metrics, sampled=job.sampling is not None),
        delta=_direction(plane.delta),
        eta=None if plane.eta is None else _direction(plane.eta),
        job=identity.job.text,
        attributes={"seed": identity.seed, **identity.fingerprints, **attributes},
    )


def _other(surface: Surface, identity: Identity) -> str | None:
    first = read_job(surface.job or "", surface.path, SweepJob)
    if key := difference(first.values, identity.job.values):
        return key
    for name, (key, what) in FINGERPRINTS.items():
        if surface.attributes.get(name) != identity.fingerprints[name]:
            return f"{key}: it was made from {what} ({name} differs)"
    return None


def _direction(direction: Parameters) -> Direction:
    return [(name, tensor.float().numpy()) for name, tensor in direction.items()]
