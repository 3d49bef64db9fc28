"""Builds planes of `plane.kind: worst`: along the steepest ascent of the loss at theta*, which gradients find."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from landscape_mpi.assemble import give_back_memory, without_tf32
from landscape_mpi.curvature import silent
from landscape_mpi.data.split import batches
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Batch, EagerEvaluator, Task, examples_that_fit
from landscape_mpi.job import WorstPlane
from landscape_mpi.log import log
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.plane import Parameters, Plane, RandomDirections, moved
from landscape_mpi.plane.normalise import steepest
from landscape_mpi.plane.parameters import dot, real, row_pieces, standing
from landscape_mpi.plugin import reason
from landscape_mpi.sweeping.check_network import Comparison, needs_afresh
from landscape_mpi.sweeping.curvature import NO_CURVATURE, PARTS
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.memory import Gradient, room_of
from landscape_mpi.sweeping.once import share_parameters
from landscape_mpi.sweeping.planes import Built, Request

MOST = 64
"""Examples of a backward pass at the most, whatever batch the sweep takes: no bit of a gradient depends on it."""
FEW = 2
"""Examples that show whether the loss depends on a parameter that has no gradient."""
REMEDY = "name another kind, or detach nothing that moves"


def build(plane: WorstPlane, request: Request) -> Built:
    """Return the plane of the steepest ascent, with random directions along further axes; collective.

    With several steps, each later gradient is that at `radius` along the direction found so far. The next direction is
    that along which the loss, taken as linear around that point, is highest at `radius`. This is the generalised power
    method (Journee et al., JMLR 11, 2010), in which no convex loss falls. If a loss does fall, the direction before is
    kept.

    Raises:
        UserError: a pattern matches no parameter, or there is no gradient, or none that is finite.
    """
    world, experiment = request.world, request.experiment
    origin, leads = experiment.theta.parameters, world.rank == 0
    names = together(world, moved, origin, plane.ignore, plane.only)
    room = together(world, room_of, experiment.device, world.host)
    ranks = world.allgather(room.name).count(room.name)
    together(world, gradient_of(experiment, plane).check, 0, ranks, room)
    ascent = Ascent.of(request, names, plane.examples)
    several = f"{plane.steps} gradients" if plane.steps > 1 else "one gradient"
    log(world, f"plane: steepest ascent of the loss, by {several} on {ascent.count:,} {ascent.split} examples ...")

    def along(gradient: Parameters) -> dict[str, Tensor]:
        found = steepest(gradient, origin, plane.normalize)
        return {name: found[name] if name in found else standing(origin[name]) for name in names}

    centre, gradient = ascent.at(None)
    on_ranks(world, leads, ascent.check, gradient)
    best = direction = on_ranks(world, leads, along, gradient)
    facts = {"worst_slope": world.bcast(dot(gradient, direction) if direction else 0.0)}
    log(world, f"plane: the loss of {centre:.6g} rises by {facts['worst_slope']:.4g} per unit of alpha at theta*.")
    for left in reversed(range(plane.steps)):
        gradient.clear()  # frees its memory before the next one is made
        if plane.radius is None:
            break
        point = share_parameters(direction, names, world), plane.radius
        loss, gradient = ascent.at(point, slopes=left > 0)
        log(world, f"plane: at alpha {plane.radius:g} it is {loss - centre:.6g} higher, after {plane.steps - left}.")
        if not loss - centre > facts.get("worst_rise", -math.inf):
            break
        best, facts["worst_rise"] = direction, loss - centre
        direction = on_ranks(world, leads and left > 0, along, gradient)
    found = share_parameters(best, names, world, here=request.here)
    if not request.here:
        return Built(None, facts)
    delta = {name: found[name] if name in found else standing(tensor) for name, tensor in origin.items()}
    recipe = RandomDirections(plane.seed, plane.normalize, plane.ignore, plane.only)
    drawn = [recipe.draw(origin, axis) for axis in range(1, experiment.job.values.axes)]
    # as tensors, because a sweep that goes on with a surface reads back tensors
    return Built(Plane.along(origin, [delta, *({name: d[name] for name in origin} for d in drawn)]), facts)


def gradient_of(experiment: Experiment, plane: WorstPlane) -> Gradient:
    """Return how much memory the gradient takes. Raises as `moved`."""
    origin = experiment.theta.parameters
    moving = (origin[name] for name in moved(origin, plane.ignore, plane.only))
    return Gradient.of(moving, experiment.task.dtype.itemsize)


@dataclass(frozen=True)
class Ascent:
    """Gradients of the mean loss over the first examples of a split; all ranks call each method.

    Ranks share the examples in parts, and their sums are added in the order of the parts, so that no bit depends on how
    many ranks there are. A rank holds the gradient of one part at a time; rank 0 also holds the sum.

    Attributes:
        world: The ranks.
        experiment: Network, data and job.
        task: The data and the loss, in the dtype of the evaluation throughout.
        names: Of the parameters that move.
        split: The name of the split.
        parts: Its examples, in order.
        batch: Examples of a backward pass.
    """

    world: World
    experiment: Experiment
    task: Task
    names: Sequence[str]
    split: str
    parts: tuple[slice, ...]
    batch: Batch

    @staticmethod
    def of(request: Request, names: Sequence[str], examples: int | None) -> "Ascent":
        """Return the gradients over the first examples, or over all.

        Raises:
            UserError: the network has to be made afresh at every point.
        """
        world, experiment = request.world, request.experiment
        task, split = experiment.task.exact, experiment.job.values.data.splits[0]
        held = examples_that_fit(task, MOST)
        if not experiment.theta.is_large:  # whether losses follow parameters that are set in place
            origin = experiment.theta.parameters
            line = Plane.along(origin, [RandomDirections(0, "filter", "none").draw(origin, 0)])
            comparison = together(world, Comparison.of, experiment, line, held, ((0.25,),))
            if needs_afresh(world, experiment, line, held, comparison):
                raise UserError("plane.kind", f"found worst, and {NO_CURVATURE[1]}", remedy="name another kind")
        count = len(task.splits[split])
        count = min(examples or count, count)
        parts = tuple(batches(count, held * math.ceil(math.ceil(count / held) / PARTS)))
        return Ascent(world, experiment, task, names, split, parts, Batch(held))

    @property
    def count(self) -> int:
        """How many examples there are."""
        stop: int = self.parts[-1].stop
        return stop

    def at(self, place: tuple[Parameters, float] | None, *, slopes: bool = True) -> tuple[float, dict[str, Tensor]]:
        """Return the mean loss at a place along a direction, or at theta*, and on rank 0 its gradient there, float64.

        The gradient is of those parameters that move and have one; it is empty without `slopes`. Collective.

        Raises:
            UserError: the network, the loss or its derivative raised.
        """
        world, total, losses = self.world, dict[str, Tensor](), list[float]()
        network = together(world, self._network, place)
        trained = {name: leaf.requires_grad for name, leaf in network.named_parameters()}
        for name, leaf in network.named_parameters():
            leaf.requires_grad_(slopes and name in self.names)
        for first in range(0, len(self.parts), world.size):
            mine = first + world.rank
            loss = on_ranks(world, mine < len(self.parts), self._sum, network, mine)
            losses += [one for one in world.allgather(loss) if one is not None]
            if slopes:
                self._add(total, network)
        for name, leaf in network.named_parameters():
            leaf.requires_grad_(trained[name])
        give_back_memory()
        weights = self.task.weights[self.split]
        weight = float(self.count if weights is None else weights[: self.count].sum())
        for summed in total.values():
            summed /= weight
        return math.fsum(losses) / weight, total

    def check(self, gradient: dict[str, Tensor]) -> None:
        """Check on this rank that a gradient at theta* is finite and not 0, and lacks nothing that the loss depends on.

        Raises:
            UserError: that is not so.
        """
        if not all(bool(torch.isfinite(part).all()) for part in gradient.values()):
            raise UserError("plane.kind", "found worst, and the gradient at theta* is not finite", remedy=REMEDY)
        if not any(bool(part.any()) for part in gradient.values()):
            raise UserError("plane.kind", "found worst, and the loss has no gradient at theta*", remedy=REMEDY)
        network = self._network(None)
        without = {name: leaf for name, leaf in network.named_parameters() if name in set(self.names) - set(gradient)}
        if without and (odd := silent(without, lambda: self.task.losses_of(network, self.split, slice(0, FEW)).sum())):
            raise UserError(
                "plane.kind",
                f"found worst, and the loss depends on `{odd[0]}`, of which torch finds no gradient",
                remedy=REMEDY,
            )

    def _network(self, place: tuple[Parameters, float] | None) -> nn.Module:
        """Return the network at a place along a direction, or at theta*, with no gradient."""
        origin, (direction, radius) = self.experiment.theta.parameters, place or ({}, 0.0)
        along = {name: direction[name] if name in direction else standing(tensor) for name, tensor in origin.items()}
        network = self.experiment.theta.network
        evaluator = EagerEvaluator(network, Plane(origin, (along,)), self.task, self.batch.examples)
        return evaluator.network_at((radius,))

    def _sum(self, network: nn.Module, number: int) -> float:
        """Return the sum of the losses of a part; the network's parameters hold its gradient then."""
        part = self.parts[number]

        def summed(batch: int) -> float:
            for leaf in network.parameters():
                leaf.grad = None
            losses = []
            for cut in batches(part.stop - part.start, batch):
                self.task.pause()
                examples = slice(part.start + cut.start, part.start + cut.stop)
                with torch.enable_grad(), without_tf32(self.experiment.precision.tf32):
                    loss = self.task.losses_of(network, self.split, examples).sum()
                    if loss.requires_grad:
                        loss.backward()  # type: ignore[no-untyped-call]
                losses.append(float(loss.detach()))
            return math.fsum(losses)

        try:
            return self.batch.attempt(summed)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            found = f"found worst, and the loss cannot be differentiated ({reason(error)})"
            raise UserError("plane.kind", found, remedy=REMEDY) from error

    def _add(self, total: dict[str, Tensor], network: nn.Module) -> None:
        """Add the gradients that ranks hold to rank 0's sum, in the order of the ranks, a few rows at a time."""
        leaves = dict(network.named_parameters())
        for name in self.names:
            mine = leaves[name].grad
            for rows in row_pieces(leaves[name]):
                piece = None if mine is None else real(mine[rows] if mine.dim() else mine).cpu().numpy()
                for one in self.world.gather(piece) or ():
                    if one is not None:
                        if name not in total:
                            wide = torch.complex128 if leaves[name].is_complex() else torch.float64
                            total[name] = torch.zeros(leaves[name].shape, dtype=wide)
                        summed = real(total[name][rows] if total[name].dim() else total[name])
                        summed += torch.from_numpy(one)
            leaves[name].grad = None
