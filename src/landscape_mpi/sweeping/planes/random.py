"""Builds planes of `plane.kind: random`: directions drawn from a seed, then normalised."""

from landscape_mpi.job import RandomPlane
from landscape_mpi.mpi.world import World, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, moved
from landscape_mpi.plane.normalise import Scales, scales_of
from landscape_mpi.sweeping.planes import Built, Request


def build(plane: RandomPlane, request: Request) -> Built:
    """Return the plane of a seed; collective. Raises as `random_plane`."""
    experiment = request.experiment
    return Built(random_plane(request.world, plane, experiment.theta.parameters, experiment.job.values.axes))


def random_plane(world: World, plane: RandomPlane, theta: Parameters, axes: int) -> Plane:
    """Return the plane of a seed through theta, along as many directions as there are axes; collective.

    Each rank finds the scales of some parameters, which is all that is to be computed: numbers are drawn when they are
    asked for.

    Raises:
        UserError: a pattern matches no parameter, or nothing is left to perturb.
    """
    names = sorted(together(world, moved, theta, plane.ignore, plane.only), key=lambda name: -theta[name].numel())
    mine = names[world.rank :: world.size]

    def found() -> list[Scales]:
        return [scales_of(plane.seed, axis, plane.normalize, theta, mine) for axis in range(axes)]

    everyone = world.allgather(together(world, found))
    scales = [{name: one[axis][name] for one in everyone for name in one[axis]} for axis in range(axes)]
    ordered = [{name: of[name] for name in theta if name in of} for of in scales]
    recipe = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
    return Plane.along(theta, [recipe.draw(theta, axis, one) for axis, one in enumerate(ordered)])
