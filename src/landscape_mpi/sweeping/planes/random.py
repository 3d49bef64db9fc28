"""Builds planes of `plane.kind: random`: directions drawn from a seed, then normalised."""

from landscape_mpi.job import RandomPlane
from landscape_mpi.mpi.world import World, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, moved
from landscape_mpi.plane.normalise import Scales, scales_of
from landscape_mpi.sweeping.planes import Built, Request


def build(plane: RandomPlane, request: Request) -> Built:
    """Return the plane of a seed; collective.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    theta, axes = request.experiment.theta, request.experiment.job.values.axes
    origin = theta.parameters
    if theta.is_large:
        recipe = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
        return Built(shared_plane(request.world, recipe, origin, axes))
    return Built(together(request.world, random_plane, plane, origin, axes))


def random_plane(plane: RandomPlane, origin: Parameters, axes: int) -> Plane:
    """Return the plane through `origin` along as many directions as there are axes. Raises as `build`."""
    directions = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
    return Plane.along(origin, [directions.draw(origin, axis) for axis in range(axes)])


def shared_plane(world: World, recipe: RandomDirections, theta: Parameters, axes: int) -> Plane:
    """Return the plane of a recipe's first directions, for which each rank finds the scales of some parameters.

    Collective.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    names = sorted(together(world, moved, theta, recipe.ignore, recipe.only), key=lambda name: -theta[name].numel())
    mine = names[world.rank :: world.size]

    def found() -> list[Scales]:
        return [scales_of(recipe.seed, axis, recipe.normalise, theta, mine) for axis in range(axes)]

    everyone = world.allgather(together(world, found))
    scales = [{name: one[axis][name] for one in everyone for name in one[axis]} for axis in range(axes)]
    ordered = [{name: of[name] for name in theta if name in of} for of in scales]
    return Plane.along(theta, [recipe.draw(theta, axis, one) for axis, one in enumerate(ordered)])
