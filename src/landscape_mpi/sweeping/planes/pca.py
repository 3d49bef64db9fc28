"""Builds planes of `plane.kind: pca`: the principal components of a training run's checkpoints, seen from theta*."""

from threadpoolctl import threadpool_limits

from landscape_mpi.job import PcaPlane
from landscape_mpi.mpi.world import together
from landscape_mpi.plane import Components, Matrix, Parameters, Plane, moved, principal_components, scale_direction
from landscape_mpi.sweeping.once import share_parameters
from landscape_mpi.sweeping.planes import Built, Request
from landscape_mpi.sweeping.planes.trajectory import Run


def build(plane: PcaPlane, request: Request) -> Built:
    """Return the plane of the first components; collective: rank 0 alone reads the checkpoints.

    Raises:
        UserError: a pattern matches no parameter, or the checkpoints span fewer dimensions than the plane has.
    """
    world, run = request.world, request.run
    origin, axes = request.experiment.theta.parameters, request.experiment.job.values.axes

    def mine() -> Components | None:
        return components(plane, run, origin, axes) if run else None

    found = together(world, mine)
    names = list(origin)
    directions = [
        share_parameters(found.directions[i] if found else None, names, world, here=request.here) for i in range(axes)
    ]
    made = Plane.along(origin, directions) if request.here else None
    return Built(made, explained=found.explained if found else ())


def components(plane: PcaPlane, run: Run, origin: Parameters, count: int) -> Components:
    """Return the first components of a run's checkpoints, normalised as the job asks. Raises as `build`."""
    matrix = Matrix(run.rows, origin, moved(origin, plane.ignore, plane.only)).without_zeros()
    with threadpool_limits(1, user_api="blas"):  # so that no sum depends on the number of cores
        found = principal_components(matrix, count)
    scaled = [scale_direction(d, origin, plane.normalize, plane.ignore, plane.only) for d in found.directions]
    return Components(tuple(scaled), found.explained)
