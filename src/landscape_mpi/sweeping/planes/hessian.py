"""Builds planes of `plane.kind: hessian`: eigenvectors of both ends of the Hessian's spectrum at theta*."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from landscape_mpi.curvature import Extremes, Search, start_vector
from landscape_mpi.errors import UserError
from landscape_mpi.job import HessianPlane
from landscape_mpi.log import log
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.plane import Plane, RandomDirections, moved, scale_direction
from landscape_mpi.sweeping.check_network import Comparison, needs_afresh
from landscape_mpi.sweeping.choose_engine import choose_batch
from landscape_mpi.sweeping.curvature import NO_CURVATURE, Curvature, values_of
from landscape_mpi.sweeping.planes import Built, Request


def build(plane: HessianPlane, request: Request) -> Built:
    """Return the plane of the eigenvectors, and the eigenvalues as facts; all ranks share each product; collective.

    Raises:
        UserError: there are no second derivatives, or they are not finite.
    """
    world, experiment = request.world, request.experiment
    theta, origin = experiment.theta, experiment.theta.parameters
    names = together(world, moved, origin, plane.ignore, plane.only)
    batch = choose_batch(world, experiment)
    # a random line shows whether the losses follow parameters that are set in place
    line = Plane.along(origin, [RandomDirections(0, "filter", "none").draw(origin, 0)])
    comparison = together(world, Comparison.of, experiment, line, batch, ((0.25,),))
    if needs_afresh(world, experiment, line, batch, comparison):
        raise UserError(*NO_CURVATURE)
    curvature = together(world, Curvature.of, experiment, Plane(origin, (origin,)), batch)
    curvature = replace(curvature, names=frozenset(names))
    if text := together(world, curvature.rehearse):
        theta.note(text)
    log(world, f"plane: eigenvectors of the Hessian at theta*, on {curvature.count:,} {curvature.split} examples ...")
    found = _extremes(world, curvature)
    short = "" if found.converged else f", short of {curvature.section.tolerance:g}"
    log(
        world,
        f"plane: eigenvalues {found.smallest:.6g} to {found.largest:.6g}, residual {found.residual:.2g}{short}, "
        f"{found.products} products.",
    )
    vectors = (found.highest, found.lowest)[: experiment.job.values.axes]
    trained = curvature.leaves(curvature.evaluator.centre)
    directions = []
    for vector in vectors:
        cuts = torch.split(vector, [origin[name].numel() for name in trained])
        d = {name: torch.zeros(tensor.shape) for name, tensor in origin.items()}
        d |= {name: cut.float().view_as(d[name]) for name, cut in zip(trained, cuts, strict=True)}
        directions.append(scale_direction(d, origin, plane.normalize, plane.ignore, plane.only))
    facts = {f"hessian_{name.removeprefix('hessian_')}": value for name, value in values_of(found).items()}
    return Built(Plane.along(origin, directions), facts)


def _extremes(world: World, curvature: Curvature) -> Extremes:
    """Return both ends of the spectrum at theta*; collective.

    Rank 0 searches. All ranks share each product: a rank sums its parts of the examples, and the sums are added in the
    order of the parts, so that no bit depends on the number of ranks.

    Raises:
        UserError: the Hessian is not finite.
    """
    hessian = together(world, curvature.hessian, curvature.evaluator.centre)
    start = start_vector(hessian.size, curvature.task.device)
    search = on_ranks(world, world.rank == 0, Search, start, curvature.section.tolerance)
    parts, size = curvature.parts, world.size

    def mine(vector: Tensor) -> list[Tensor]:
        return [curvature.part(hessian, vector, part).cpu() for part in parts[world.rank :: size]]

    def take(product: Tensor) -> None:
        if search:
            search.take(product)

    while (vector := world.bcast(search.vector.cpu() if search and not search.found else None)) is not None:
        sums = world.allgather(together(world, mine, vector.to(start.device)))
        product = curvature.mean([sums[i % size][i // size].to(start.device) for i in range(len(parts))])
        together(world, take, product)
    found = world.bcast(search.found if search else None)
    if found is None or math.isnan(found.residual):
        raise UserError(
            "plane.kind", "found hessian, and the Hessian at theta* is not finite", remedy="name another kind"
        )
    return found
