"""Builds planes of `plane.kind: hessian`: eigenvectors of both ends of the Hessian's spectrum at theta*."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from landscape_mpi.curvature import Extremes, Hessian, Search, start_vector
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Point
from landscape_mpi.job import HessianPlane
from landscape_mpi.log import log
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, moved, scale_direction
from landscape_mpi.sweeping.batch_size import choose_batch
from landscape_mpi.sweeping.check_network import CENTRE, Comparison, needs_afresh
from landscape_mpi.sweeping.curvature import NO_CURVATURE, Curvature, values_of
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.planes.request import Built, Request


def build(plane: HessianPlane, request: Request) -> Built:
    """Return the plane of the eigenvectors, and the eigenvalues as facts; all ranks share each product; collective.

    Raises:
        UserError: there are no second derivatives, or they are not finite.
    """
    world, experiment = request.world, request.experiment
    theta, origin = experiment.theta, experiment.theta.parameters
    names = together(world, moved, origin, plane.ignore, plane.only)
    batch = choose_batch(world, experiment)
    _check_in_place(world, experiment, batch)
    curvature = together(world, Curvature.of, experiment, Plane(origin, origin), batch)
    if text := together(world, curvature.rehearse):
        theta.note(text)
    log(world, f"plane: eigenvectors of the Hessian at theta*, on {curvature.count:,} {curvature.split} images ...")
    found = _extremes(world, curvature, frozenset(names))
    short = "" if found.converged else f", short of {curvature.tolerance:g}"
    log(
        world,
        f"plane: eigenvalues {found.smallest:.6g} to {found.largest:.6g}, residual {found.residual:.2g}{short}, "
        f"{found.products} products.",
    )
    vectors = (found.highest, found.lowest)[: experiment.job.values.axes]
    unscaled = [_by_name(vector, theta.origin, names) for vector in vectors]
    directions = [scale_direction(d, origin, plane.normalize, plane.ignore, plane.only) for d in unscaled]
    facts = {f"hessian_{name.removeprefix('hessian_')}": value for name, value in values_of(found).items()}
    return Built(Plane.along(origin, directions), facts)


def _check_in_place(world: World, experiment: Experiment, batch: int) -> None:
    """See on a random line that the losses follow parameters that are set in place; collective.

    Raises:
        UserError: they do not.
    """
    origin, drawn = experiment.theta.parameters, RandomDirections(0, "filter", "none")
    plane = Plane.along(origin, [drawn.draw(origin, 0)])
    comparison = together(world, Comparison.of, experiment, plane, batch, (Point(0.25, 0.0),))
    if needs_afresh(world, experiment, comparison):
        raise UserError(*NO_CURVATURE)


def _extremes(world: World, curvature: Curvature, names: frozenset[str]) -> Extremes:
    """Return both ends of the spectrum at theta*; rank 0 searches, and all ranks share each product; collective.

    Raises:
        UserError: the Hessian is not finite.
    """
    hessian = together(world, curvature.hessian, CENTRE, names)
    start = start_vector(hessian.size, curvature.task.device)
    search = on_ranks(world, world.rank == 0, Search, start, curvature.tolerance)

    def take(product: Tensor) -> None:
        if search:
            search.take(product)

    while (vector := world.bcast(search.vector.cpu() if search and not search.found else None)) is not None:
        product = _product(world, curvature, hessian, vector.to(curvature.task.device))
        together(world, take, product)
    found = world.bcast(search.found if search else None)
    if found is None or math.isnan(found.residual):
        raise UserError(
            "plane.kind", "found hessian, and the Hessian at theta* is not finite", remedy="name another kind"
        )
    return found


def _product(world: World, curvature: Curvature, hessian: Hessian, vector: Tensor) -> Tensor:
    """Return a product, every rank having summed its parts of the images, the same bits as one rank's; collective."""
    parts = curvature.parts

    def mine() -> list[Tensor]:
        return [curvature.part(hessian, vector, part).cpu() for part in parts[world.rank :: world.size]]

    sums = world.allgather(together(world, mine))
    return curvature.mean([sums[i % world.size][i // world.size].to(vector.device) for i in range(len(parts))])


def _by_name(vector: Tensor, network: nn.Module, names: Sequence[str]) -> Parameters:
    """Return a vector over the trained parameters of some names as float32 tensors by name; 0 for the others."""
    direction = {name: torch.zeros(parameter.shape) for name, parameter in network.named_parameters()}
    chosen = [name for name, parameter in network.named_parameters() if parameter.requires_grad and name in names]
    cuts = torch.split(vector, [direction[name].numel() for name in chosen])
    return direction | {name: cut.float().view_as(direction[name]) for name, cut in zip(chosen, cuts, strict=True)}
