"""A plane that the job alone does not give: eigenvectors of the Hessian at theta*, or what a surface already holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.curvature import Extremes, Hessian, Search, start_vector
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Point
from landscape_mpi.job import HessianPlane, RandomPlane
from landscape_mpi.log import log
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, fit_direction, moved, scale_direction
from landscape_mpi.surface.directions import StoredDirection, read_directions
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.shards import recorded_shard
from landscape_mpi.sweeping.batch_size import choose_batch
from landscape_mpi.sweeping.check_network import CENTRE, Comparison, needs_afresh
from landscape_mpi.sweeping.curvature import NO_CURVATURE, Curvature, values_of
from landscape_mpi.sweeping.experiment import Experiment
from landscape_mpi.sweeping.resume import Identity, find_surface

Stored = tuple[StoredDirection, StoredDirection | None]


@dataclass(frozen=True)
class Made:
    """A plane that took work to make, None where the job's is of another kind, and what is recorded of it."""

    plane: Plane | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


def make_plane(world: World, experiment: Experiment, known: Path | None) -> Made:
    """Return the plane where it is not built from the job alone; collective, and the same on every rank.

    What a surface to go on with holds at `known` is read back: eigenvectors, so that another kind of processor goes on
    with the same plane, and random directions that an earlier version drew by another generator. None starts afresh.

    Raises:
        UserError: the file at `known` is of another experiment, or there are no second derivatives.
    """
    plane = experiment.job.values.plane
    if not isinstance(plane, HessianPlane | RandomPlane):
        return Made()
    stored = on_root(world, _stored, experiment, known)
    if stored is not None:
        return Made(together(world, _fitted, experiment, stored))
    return _search(world, experiment, plane) if isinstance(plane, HessianPlane) else Made()


def stand_in(experiment: Experiment, known: Path) -> Plane | None:
    """Return the plane that the surface at `known` holds, for eigenvectors else random directions, which cost nothing.

    None where the plane is built from the job alone.
    """
    plane, origin = experiment.job.values.plane, experiment.theta.parameters
    if not isinstance(plane, HessianPlane | RandomPlane):
        return None
    stored = _stored(experiment, known)
    if stored is not None:
        return _fitted(experiment, stored)
    if isinstance(plane, RandomPlane):
        return None
    drawn = RandomDirections(0, plane.normalize, plane.ignore, plane.only)
    return Plane.along(origin, (drawn.draw(origin, axis) for axis in range(experiment.job.values.axes)))


def _stored(experiment: Experiment, known: Path | None) -> Stored | None:
    """Return the directions of the surface to go on with, if there is one and they cannot be had from the job."""
    if known is None or not known.exists():
        return None
    attributes = read_surface(known).attributes
    if isinstance(experiment.job.values.plane, RandomPlane) and "generator" in attributes:
        return None
    same = {
        "checkpoint_sha256": experiment.theta.checkpoint_sha256,
        "data_sha256": experiment.data_sha256,
        "plane_sha256": str(attributes.get("plane_sha256")),
    }
    find_surface(known, Identity(experiment.job, -1, same, recorded_shard(attributes.get("shard"))))
    return read_directions(known, line=experiment.job.values.axes == 1)


def _fitted(experiment: Experiment, stored: Stored) -> Plane:
    origin, state = experiment.theta.parameters, experiment.theta.origin.state_dict()
    axes = (direction for direction in stored if direction is not None)
    return Plane.along(origin, (fit_direction(direction, origin, state, "its own surface") for direction in axes))


def _search(world: World, experiment: Experiment, plane: HessianPlane) -> Made:
    """Find the eigenvectors and make a plane of them; collective."""
    origin = experiment.theta.parameters
    names = together(world, moved, origin, plane.ignore, plane.only)
    batch = choose_batch(world, experiment)
    _check_in_place(world, experiment, batch)
    curvature = together(world, Curvature.of, experiment, Plane(origin, origin), batch)
    if text := together(world, curvature.rehearse):
        experiment.theta.note(text)
    log(world, f"plane: eigenvectors of the Hessian at theta*, on {curvature.count:,} {curvature.split} images ...")
    found = _ends(world, curvature, frozenset(names))
    log(world, f"plane: {_in_words(found, curvature.tolerance)}.")
    vectors = (found.highest, found.lowest)[: experiment.job.values.axes]
    directions = (_direction(vector, experiment.theta.origin, names) for vector in vectors)
    scaled = (scale_direction(d, origin, plane.normalize, plane.ignore, plane.only) for d in directions)
    return Made(Plane.along(origin, scaled), _facts(found))


def _check_in_place(world: World, experiment: Experiment, batch: int) -> None:
    """See on some other plane that the losses follow parameters that are set in place; collective.

    Raises:
        UserError: they do not.
    """
    origin, drawn = experiment.theta.parameters, RandomDirections(0, "filter", "none")
    plane = Plane.along(origin, [drawn.draw(origin, 0)])
    comparison = together(world, Comparison.of, experiment, plane, batch, (Point(0.25, 0.0),))
    if needs_afresh(world, experiment, comparison):
        raise UserError(NO_CURVATURE)


def _ends(world: World, curvature: Curvature, names: frozenset[str]) -> Extremes:
    """Return both ends of the spectrum at theta*, each product shared by all ranks; collective.

    Raises:
        UserError: the Hessian is not finite.
    """
    hessian = together(world, curvature.hessian, CENTRE, names)
    start = start_vector(hessian.size, curvature.task.device)
    search = on_ranks(world, world.rank == 0, Search, start, curvature.tolerance)
    while (vector := world.bcast(search.vector.cpu() if search and not search.found else None)) is not None:
        product = _shared(world, curvature, hessian, vector.to(curvature.task.device))
        together(world, _take, search, product)
    found = world.bcast(search.found if search else None)
    if found is None or math.isnan(found.residual):
        raise UserError("plane.kind: found hessian, and the Hessian at theta* is not finite; name another kind.")
    return found


def _shared(world: World, curvature: Curvature, hessian: Hessian, vector: Tensor) -> Tensor:
    """Return a product, every rank having summed its parts of the images, the same bits as one rank's; collective."""
    parts = curvature.parts

    def mine() -> list[Tensor]:
        return [curvature.part(hessian, vector, part).cpu() for part in parts[world.rank :: world.size]]

    sums = world.allgather(together(world, mine))
    return curvature.mean([sums[i % world.size][i // world.size].to(vector.device) for i in range(len(parts))])


def _take(search: Search | None, product: Tensor) -> None:
    """Hand a product to the search, where this rank has one."""
    if search:
        search.take(product)


def _in_words(found: Extremes, tolerance: float) -> str:
    short = "" if found.converged else f", short of {tolerance:g}"
    ends = f"eigenvalues {found.smallest:.6g} to {found.largest:.6g}"
    return f"{ends}, residual {found.residual:.2g}{short}, {found.products} products"


def _direction(vector: Tensor, network: nn.Module, names: Sequence[str]) -> Parameters:
    """Return a vector over the trained parameters of some names as float32 tensors by name; 0 for the others."""
    direction = {name: torch.zeros(parameter.shape) for name, parameter in network.named_parameters()}
    chosen = [name for name, parameter in network.named_parameters() if parameter.requires_grad and name in names]
    cuts = torch.split(vector, [direction[name].numel() for name in chosen])
    return direction | {name: cut.float().view_as(direction[name]) for name, cut in zip(chosen, cuts, strict=True)}


def _facts(found: Extremes) -> dict[str, float]:
    """Return what is recorded of a plane of eigenvectors, by the names of the surface's attributes."""
    return {f"hessian_{name.removeprefix('hessian_')}": value for name, value in values_of(found).items()}
