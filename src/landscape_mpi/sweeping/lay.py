"""A job and theta* -> its plane, the path of a training run on it, and the grid; collective, writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from threadpoolctl import threadpool_limits

from landscape_mpi.job import JobFile, PcaPlane, SweepJob
from landscape_mpi.mpi.shutdown import Stop
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.plane import Components, Matrix, Plane, moved, principal_components, scale_direction
from landscape_mpi.surface import Trajectory
from landscape_mpi.sweeping.broadcast import share_parameters
from landscape_mpi.sweeping.load import Theta
from landscape_mpi.sweeping.planes import build_plane
from landscape_mpi.sweeping.trajectory import Run, find_run, holding, place


@dataclass(frozen=True)
class Laid:
    """A plane, the job with its grid, and the path of a run where the job names one, with its fingerprint."""

    job: JobFile[SweepJob]
    plane: Plane
    trajectory: Trajectory | None = None
    fingerprints: Mapping[str, str] = field(default_factory=dict)


def lay_plane(
    world: World, job: JobFile[SweepJob], theta: Theta, repeat: int, stop: Stop, made: Plane | None = None
) -> Laid:
    """Return the plane of a repeat, the same on every rank; rank 0 alone reads checkpoints of a trajectory.

    `made`: the plane, where it is made already.

    Raises:
        UserError: the plane cannot be built, or the checkpoints do not fit it.
    """
    run = on_ranks(world, world.rank == 0, find_run, job, theta, stop)
    plane, explained = (made, ()) if made else _plane(world, job, theta, repeat, run)
    found = on_root(world, _placed, run, plane, explained)
    if found is None:
        return Laid(job, plane)
    trajectory, sha256 = found
    if job.values.grid is None:
        job = job.with_grid(holding(trajectory))
    return Laid(job, plane, trajectory, {"trajectory_sha256": sha256})


def _plane(
    world: World, job: JobFile[SweepJob], theta: Theta, repeat: int, run: Run | None
) -> tuple[Plane, tuple[float, ...]]:
    """Return the plane and, on rank 0, what its components explain of the variance, where it is one of components."""
    kind = job.values.plane
    if not isinstance(kind, PcaPlane):
        return together(world, build_plane, job, theta, repeat), ()
    count = job.values.axes
    made = together(world, _components, kind, theta, run, count)
    names = list(theta.parameters)
    directions = [share_parameters(made.directions[axis] if made else None, names, world) for axis in range(count)]
    return Plane.along(theta.parameters, directions), made.explained if made else ()


def _placed(run: Run | None, plane: Plane, explained: tuple[float, ...]) -> tuple[Trajectory, str] | None:
    """Return where the run goes on the plane, and its fingerprint; None where there is no run."""
    return (place(run, plane, explained), run.sha256) if run else None


def _components(kind: PcaPlane, theta: Theta, run: Run | None, count: int) -> Components | None:
    """Return the scaled components of the run; None where this rank has none."""
    if run is None:
        return None
    origin = theta.parameters
    matrix = Matrix(run.rows, origin, moved(origin, kind.ignore, kind.only)).without_zeros()
    with threadpool_limits(1, user_api="blas"):  # so that no sum depends on the number of cores
        found = principal_components(matrix, count)
    scaled = [scale_direction(d, origin, kind.normalize, kind.ignore, kind.only) for d in found.directions]
    return Components(tuple(scaled), found.explained)
