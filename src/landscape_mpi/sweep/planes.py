"""A job and theta* -> its planes, one function a `plane.kind`, and where their surfaces go; writes nothing."""

from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.job import FilePlane, InterpolatedPlane, JobFile, RandomPlane, SweepJob
from landscape_mpi.plane import Parameters, Plane, RandomDirections, difference, fit_direction, scale_direction
from landscape_mpi.surface.directions import read_directions
from landscape_mpi.sweep.prepare import Theta, load_end


def build_plane(job: JobFile[SweepJob], theta: Theta, repeat: int = 0) -> Plane:
    """Return the plane of a job; `repeat` counts through `plane.repeats`.

    Raises:
        UserError: a pattern matches nothing, or another checkpoint or a direction file does not fit the network.
    """
    plane, line = job.values.plane, job.values.grid.beta is None
    match plane:
        case FilePlane():
            return _stored_plane(job.resolve(plane.path), theta, line)
        case InterpolatedPlane():
            return _interpolated_plane(job, plane, theta)
        case RandomPlane():
            return _random_plane(plane, seed(job.values, repeat), theta, line)


def repeats(job: SweepJob) -> int:
    """Return how many planes the job asks for."""
    return job.plane.repeats if isinstance(job.plane, RandomPlane) else 1


def seed(job: SweepJob, repeat: int) -> int:
    """Return the seed of a repeat's plane; -1 where nothing is drawn."""
    return job.plane.seed + repeat if isinstance(job.plane, RandomPlane) else -1


def output_path(job: JobFile[SweepJob], repeat: int) -> Path:
    """Return where the surface of a repeat goes: NAME.h5, or NAME.rK.h5 where there are several."""
    path = job.resolve(job.values.output.file)
    return path if repeats(job.values) == 1 else path.with_name(f"{path.stem}.r{repeat}{path.suffix}")


def _random_plane(plane: RandomPlane, seed: int, theta: Theta, line: bool) -> Plane:
    directions = RandomDirections(seed, plane.normalize, plane.ignore, plane.only)
    origin = theta.parameters
    return Plane(origin, directions.draw(origin, 0), None if line else directions.draw(origin, 1))


def _interpolated_plane(job: JobFile[SweepJob], plane: InterpolatedPlane, theta: Theta) -> Plane:
    origin = theta.parameters

    def way(key: str, name: str) -> Parameters:
        d = difference(load_end(theta, job.resolve(name), key), origin)
        return scale_direction(d, origin, plane.normalize, plane.ignore, plane.only)

    return Plane(origin, way("plane.to", plane.to), None if plane.via is None else way("plane.via", plane.via))


def _stored_plane(path: Path, theta: Theta, line: bool) -> Plane:
    if not path.is_file():
        raise UserError(f"plane.path: no file {path}; expected a direction file or a surface file.")
    delta, eta = read_directions(path, line)
    origin, state = theta.parameters, theta.network.state_dict()
    return Plane(
        origin,
        fit_direction(delta, origin, state, f"{path}: xdirection"),
        None if eta is None else fit_direction(eta, origin, state, f"{path}: ydirection"),
    )
