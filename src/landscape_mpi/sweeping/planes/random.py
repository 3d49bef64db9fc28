"""Builds planes of `plane.kind: random`: directions drawn from a seed, then normalised."""

from landscape_mpi.job import RandomPlane
from landscape_mpi.mpi.world import together
from landscape_mpi.plane import Parameters, Plane, RandomDirections
from landscape_mpi.sweeping.planes import shared
from landscape_mpi.sweeping.planes.request import Built, Request


def build(plane: RandomPlane, request: Request) -> Built:
    """Return the plane of a seed; collective.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    theta, axes = request.experiment.theta, request.experiment.job.values.axes
    origin = theta.parameters
    if theta.is_large:
        recipe = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
        return Built(shared.random_plane(request.world, recipe, origin, axes))
    return Built(together(request.world, random_plane, plane, origin, axes))


def random_plane(plane: RandomPlane, origin: Parameters, axes: int) -> Plane:
    """Return the plane through `origin` along as many directions as there are axes. Raises as `build`."""
    directions = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
    return Plane.along(origin, [directions.draw(origin, axis) for axis in range(axes)])
