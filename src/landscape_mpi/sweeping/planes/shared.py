"""Shares what makes a plane of a large network among ranks: directions are held once a node, scales found by all."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.mpi.world import World, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, moved
from landscape_mpi.plane.normalise import Scales, scales_of
from landscape_mpi.plane.parameters import real, single, standing, stays


def random_plane(world: World, recipe: RandomDirections, theta: Parameters, axes: int) -> Plane:
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


def share_plane(world: World, made: Plane | None, theta: Parameters) -> Plane:
    """Return the plane that local rank 0 of each node made, whose directions are held once in the node's memory.

    Collective. The buffers that move along are small, and every rank has them.
    """
    moving = [(i, name) for i, d in enumerate(made.directions) for name in d if not stays(d[name])] if made else []
    arrays = [_array(made.directions[i][name]) for i, name in moving] if made else []
    axes, forms, statistics = next(
        found for found in world.allgather((len(made.directions), moving, made.statistics) if made else None) if found
    )
    directions = [{name: standing(tensor) for name, tensor in theta.items()} for _ in range(axes)]
    for (i, name), array in zip(forms, world.share(arrays), strict=True):
        numbers = torch.from_numpy(array).view(real(theta[name]).shape)
        directions[i][name] = torch.view_as_complex(numbers) if theta[name].is_complex() else numbers
    return Plane(theta, tuple(directions), statistics)


def _array(direction: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = real(single(direction)).contiguous().numpy()
    return found
