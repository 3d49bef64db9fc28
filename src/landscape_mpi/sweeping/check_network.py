"""Checks that an evaluator gives the losses of the callable's own network, at theta*, around it and at known ends.

The reference is the network as torch's users evaluate it, in the layout and the dtype in which it was made. Each point
has a copy of its own, and the point's weights are loaded before eval mode. Every engine, layout and copy has to give
the losses of the reference.
"""

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.data.split import batches
from landscape_mpi.errors import CentreMismatchError, UserError
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point, Task, place
from landscape_mpi.evaluate.eager import TeamEvaluator, fresh
from landscape_mpi.evaluate.evaluator import fast_copy
from landscape_mpi.job import Axis, CurvePlane, Grid, InterpolatedPlane
from landscape_mpi.log import note
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks.state import cast, load, set_statistics
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.large import made_at
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.precision import Tolerance
from landscape_mpi.sweeping.theta import Losses, Theta, first_losses, in_own_dtype

if typing.TYPE_CHECKING:
    from landscape_mpi.evaluate.sharded import Sharded

P = ParamSpec("P")
TOO_LARGE = "this one is not copied, so let it compute all from its weights in every forward pass"
"""What to do about a large network that gives other losses when its weights are set in place."""
FLAT = (
    "the first examples give the same losses all over the plane, to the last bit: the parameters that it moves have no "
    "part in them, or the network keeps what it computed from them before it was copied."
)
ENDS = ("plane.to", "plane.via")
"""Keys of what is at the ends of an interpolation."""
ABOUT_HALF = 0.4717
"""The share of the way from the centre to the end of the grid."""
DRAWS, FACTOR = 2, 8.0
"""How often the last digits of weights are changed, and how many times as much rounding may change a loss."""
FAR_EXAMPLES = 256
"""Examples of each split that are compared at the far corner; at the centre all are."""
PerSlice = Callable[[str, slice], PerExample]
"""(split, examples) -> what each of the examples gives."""


@dataclass(frozen=True)
class Reference:
    """The network at points of a plane: a copy for each point, with the point's weights loaded, then in eval mode.

    Attributes:
        network: As it was made, in train mode, in its own dtype, on the task's device.
        task: In the network's dtype.
        plane: The plane of its parameters, in its dtype.
        batch: Examples at a time.
        eps: The largest relative error of rounding a number, in the dtype of the evaluation.
    """

    network: nn.Module
    task: Task
    plane: Plane
    batch: int
    eps: float

    @staticmethod
    def of(theta: Theta, plane: Plane, task: Task, batch: int) -> "Reference":
        """Return the reference of a plane through theta*."""
        network, own_task = in_own_dtype(theta.origin, task)
        eps = max(torch.finfo(dtype).eps for dtype in (task.dtype, own_task.dtype))
        return Reference(network, own_task, plane.to(task.device), batch, eps)

    def at(self, point: Point) -> Losses:
        """Return the losses of the first examples at a point."""
        network, _ = fresh(self.network, self.plane, self.task, point)
        return first_losses(network, self.task, self.batch)

    def slack(self, point: Point) -> dict[str, float]:
        """Return by how much rounding may change the mean losses at a point; 0 where two evaluations differ.

        It is measured with weights whose last digits are changed. Where a loss depends much on these digits, no two
        ways to compute it agree.
        """
        losses, again = self.at(point), self.at(point)
        found = dict.fromkeys(losses, 0.0)
        if any(not np.array_equal(same, losses[name], equal_nan=True) for name, same in again.items()):
            return found
        generator = torch.Generator().manual_seed(0)

        def changed(tensor: Tensor) -> Tensor:
            signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
            return tensor + 2 * self.eps * tensor * signs.to(tensor.device)

        for _ in range(DRAWS):
            theta = {name: changed(tensor) for name, tensor in self.plane.theta.items()}
            for name, other in replace(self, plane=replace(self.plane, theta=theta)).at(point).items():
                found[name] = max(found[name], FACTOR * distance(losses[name], other))
        return found


@dataclass(frozen=True)
class Difference:
    """Where an evaluator differs from the network itself, and how, in words."""

    point: Point
    text: str

    def __str__(self) -> str:
        """Return both in words."""
        return f"at {place(self.point)} {self.text}"


@dataclass(frozen=True)
class Comparison:
    """The losses of the callable's own network at some points, to compare evaluators with.

    Attributes:
        reference: The network at those points; None where there is no memory for another network.
        known: The losses of the first examples, by point.
        tolerance: How close an evaluator has to come.
    """

    reference: Reference | None
    known: Mapping[Point, Losses]
    tolerance: Tolerance

    @staticmethod
    def of(experiment: Experiment, plane: Plane, batch: int, points: tuple[Point, ...] = ()) -> "Comparison":
        """Return the comparison at theta*, at the ends of an interpolation, and at points, by default around theta*."""
        reference = Reference.of(experiment.theta, plane, experiment.task, batch)
        centre = plane.centre
        known = {centre: reference.at(centre) if experiment.calibration_examples else experiment.centre}
        for point in points or around_centre(experiment.job.values.chosen_grid):
            if losses := _if_possible(reference.at, point):
                known[point] = losses
        return Comparison(reference, known | own_ends(experiment, plane, batch), experiment.precision.tolerance)

    @property
    def flat(self) -> bool:
        """Whether the first examples give losses equal to the bit at all points, though the plane moves parameters."""
        first, *others = [np.concatenate(list(losses.values())) for losses in self.known.values()]
        same = bool(others) and all(np.array_equal(first, other, equal_nan=True) for other in others)
        return same and (self.reference is None or self.reference.plane.norms[0] > 0)

    def differs(self, world: World, evaluator: Evaluator) -> Difference | None:
        """Return where an evaluator differs first, on the first rank where it does; collective."""

        def first() -> Difference | None:
            texts = ((point, self._differs_at(evaluator, point)) for point in self.known)
            return next((Difference(point, text) for point, text in texts if text), None)

        found = world.allgather(together(world, first))
        return next((difference for difference in found if difference), None)

    def _differs_at(self, evaluator: Evaluator, point: Point) -> str | None:
        expected = self.known[point]
        try:
            found = {
                split: evaluator.per_example(point, split, slice(0, len(losses))).losses
                for split, losses in expected.items()
            }
        except Interrupted:
            raise
        except Exception as error:
            return f"it failed ({type(error).__name__}: {error})"
        reason = self._compare(expected, found, {})
        if reason is None or self.reference is None:
            return reason
        return self._compare(expected, found, self.reference.slack(point))  # it may be no more than rounding

    def _compare(self, expected: Losses, found: Losses, slack: Mapping[str, float]) -> str | None:
        for split, losses in expected.items():
            size = abs(float(losses[np.isfinite(losses)].mean())) if np.isfinite(losses).any() else 0.0
            allowed = self.tolerance.relative * size + self.tolerance.absolute + slack.get(split, 0.0)
            if distance(losses, found[split]) > allowed:
                plain, ours = float(losses.mean()), float(found[split].mean())
                first = f"the mean {split} loss of the first {len(losses)} examples"
                return f"{first} is {plain:.9g} by the network itself and {ours:.9g} on the plane"
        return None


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return how far the means of the finite losses are apart; inf where a loss is finite in one of the two alone.

    NaN and inf count as the same: what overflows first decides which of them a loss is.
    """
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    return abs(float(a[finite].mean()) - float(b[finite].mean())) if finite.any() else 0.0


def needs_afresh(
    world: World, experiment: Experiment, plane: Plane, batch: int, comparison: Comparison
) -> Difference | None:
    """Return why each point needs a copy of the network of its own; None where weights can be set in place; collective.

    Raises:
        CentreMismatchError: neither way gives f(0, 0).
        UserError: neither way gives the network's own losses elsewhere.
    """
    in_place = together(world, evaluator_of, experiment, plane, batch, afresh=False)
    reason = comparison.differs(world, in_place)
    if reason is None:
        return None
    afresh = together(world, evaluator_of, experiment, plane, batch, afresh=True)
    failure = comparison.differs(world, afresh)
    if failure is None:
        return reason
    expected = f"them equal to {comparison.tolerance.relative:.0e}"
    check_centre(failure, expected)
    ends = dict(zip(corners(len(failure.point)), ENDS, strict=False))
    if isinstance(experiment.job.values.plane, InterpolatedPlane | CurvePlane) and failure.point in ends:
        does = (
            "with parts that are neither parameters nor in its state dict does this, where they differ at the two ends"
        )
        raise UserError(ends[failure.point], str(failure), expected, f"A network {does}")
    does = "that keeps what it once computed, or depends on its dtype or on its tensors' layout, does this"
    raise UserError("model.build", str(failure), expected, f"A network {does}")


def check_centre(failure: Difference, expected: str) -> None:
    """Refuse a network that differs at theta* from the one whose weights were loaded just now.

    Raises:
        CentreMismatchError: it differs there.
    """
    if not any(failure.point):
        raise _no_match(failure, expected)


def _no_match(failure: Difference, expected: str) -> CentreMismatchError:
    does = "that draws random numbers in eval mode, or changes its own state, does this"
    return CentreMismatchError(f"f(0, 0) does not match: {failure}; expected {expected}. A network {does}.")


def in_place(experiment: Experiment, plane: Plane, task: Task, batch: int) -> EagerEvaluator:
    """Return the network's own forward pass at points of a plane, whose weights are set in place."""
    if experiment.team is None:
        return EagerEvaluator(experiment.theta.network, plane, task, batch)
    return TeamEvaluator(typing.cast("Sharded", experiment.theta.network), plane, task, batch, experiment.team)


def check_moves(
    world: World, experiment: Experiment, plane: Plane, batch: int, *, beside: bool = True
) -> EagerEvaluator:
    """Return the evaluator of a network of which there are no copies, after checking its losses when it is moved.

    Collective. A second network is made at one point beside theta*. A resident network takes the memory of the first; a
    network whose weights are streamed is compared with the first there. Then the first network is moved, and the losses
    of the first examples are compared: at that point if the second network is streamed, and at theta* with those of the
    network as it was loaded. Without `beside` they are compared only at theta*, where another plane has shown the rest.

    Raises:
        CentreMismatchError: they differ at theta*.
        UserError: a network that was made at another point gives other losses than one that was moved.
    """
    theta, task = experiment.theta, experiment.task
    evaluator = together(world, in_place, experiment, plane, task, batch)
    centre = experiment.centre
    if experiment.calibration_examples:  # as it was loaded it has the statistics of the checkpoint
        centre = together(world, first_losses, evaluator.network_at(plane.centre), task, batch)
    comparison = Comparison(None, {plane.centre: centre}, experiment.precision.tolerance)
    both = comparison
    for point in around_centre(experiment.job.values.chosen_grid)[: int(beside)]:
        made = together(world, made_at, theta, plane, point, task)
        there = together(world, _if_possible, first_losses, made, task, batch)
        if there is not None:
            both = replace(comparison, known={**comparison.known, point: there})
        if made is theta.network:
            evaluator = together(world, in_place, experiment, plane, task, batch)
        else:
            comparison = both
    if failure := comparison.differs(world, evaluator):
        _refuse(world, experiment, plane, batch, failure)
    if both.flat:
        note(world, FLAT)
    return evaluator


def _refuse(world: World, experiment: Experiment, plane: Plane, batch: int, failure: Difference) -> NoReturn:
    """Refuse a network that was moved, and then differed from one that was made at a point; collective.

    Raises:
        UserError: it keeps something of other weights, or changes its weights in eval mode.
        CentreMismatchError: a network that is made again at theta* does not give the same losses.
    """
    does = "keeps what it once computed from its weights"
    if failure.point == plane.centre:
        made = together(world, made_at, experiment.theta, plane, plane.centre, experiment.task)
        again = together(world, first_losses, made, experiment.task, batch)
        same = (np.array_equal(again[split], losses, equal_nan=True) for split, losses in experiment.centre.items())
        if not all(world.allgather(all(same))):
            raise _no_match(failure, f"them equal to {experiment.precision.tolerance.relative:.0e}")
        unmoved = together(world, in_place, experiment, plane, experiment.task, batch)
        known = Comparison(None, {plane.centre: experiment.centre}, experiment.precision.tolerance)
        if known.differs(world, unmoved):
            does = "changes its weights, or keeps what it computed from them, as it enters eval mode,"
    raise UserError("model.build", f"{failure}. A network that {does} does this", remedy=TOO_LARGE)


def evaluator_of(experiment: Experiment, plane: Plane, batch: int, *, afresh: bool) -> EagerEvaluator:
    """Return the network's own forward pass at points of a plane, set in place or made afresh at each."""
    task, theta = experiment.task, experiment.theta
    if not afresh:
        return EagerEvaluator(theta.network, plane, task, batch)
    origin = cast(fast_copy(theta.origin, task.layout), task.device, task.dtype)
    return EagerEvaluator(origin, plane, task, batch, afresh=True)


def per_example_at(evaluator: Evaluator, point: Point) -> PerSlice:
    """Return a function that evaluates examples of a split at one point."""
    return lambda split, examples: evaluator.per_example(point, split, examples)


def evaluate_all(
    world: World, experiment: Experiment, evaluate: PerSlice, batch: int, limit: int | None = None
) -> dict[str, PerExample]:
    """Return what the first `limit` examples of each split give, or all of them, the same on every rank; collective.

    Ranks, or teams of them, share whole batches, so that no bit depends on how many there are.
    """
    found, team = {}, experiment.team.size if experiment.team else 1
    for name, split in experiment.task.splits.items():
        mine = share(min(len(split), limit or len(split)), batch, world, team)
        part = on_ranks(world, mine.stop > mine.start, evaluate, name, mine)
        found[name] = PerExample.join([one for one in world.allgather(part)[::team] if one is not None])
    return found


def share(examples: int, batch: int, world: World, team: int = 1) -> slice:
    """Return this rank's run of whole batches; an empty one where there are fewer batches than ranks.

    `team` consecutive ranks have the same.
    """
    cuts = list(batches(examples, batch))
    each = math.ceil(len(cuts) * team / world.size)
    mine = cuts[world.rank // team * each : (world.rank // team + 1) * each]
    return slice(mine[0].start, mine[-1].stop) if mine else slice(0, 0)


def around_centre(grid: Grid) -> tuple[Point, ...]:
    """Return a point each way from the centre, about half-way to the grid's end; one point where the grid begins at 0.

    They are no points of a usual grid. Otherwise a point at which a rank dies would end every run before any point is
    computed.
    """
    axes = grid.coordinates()
    ends = ([at.min() for at in axes], [at.max() for at in axes])
    points = (tuple(ABOUT_HALF * float(x) for x in end) for end in ends)
    return tuple(point for point in points if any(point))


def far_corner(grid: Grid) -> Point:
    """Return the corner of a grid that is farthest from the centre."""

    def farthest(axis: Axis) -> float:
        coordinates = axis.coordinates()
        return float(coordinates[np.abs(coordinates).argmax()])

    return tuple(farthest(axis) for axis in grid.axes)


def corners(axes: int) -> list[Point]:
    """Return the points at 1 along each axis and 0 along the others: where an interpolation ends."""
    return [tuple(float(axis == other) for other in range(axes)) for axis in range(axes)]


def own_ends(experiment: Experiment, line: Plane, batch: int) -> dict[Point, Losses]:
    """Return what the networks at both ends of an interpolation, or of a curve, give by themselves.

    There is nothing where the plane does not go all the way. Where running statistics of batch norm stay, the ends have
    those of theta*; these fit the units of an aligned end only in its new order.
    """
    plane, theta = experiment.job.values.plane, experiment.theta
    if not (isinstance(plane, CurvePlane) or (isinstance(plane, InterpolatedPlane) and plane.whole)):
        return {}
    found = {}
    named = (plane.to, None if isinstance(plane, CurvePlane) else plane.via)
    names = [name for name in named if name is not None]
    for point, key, name in zip(corners(experiment.job.values.axes), ENDS, names, strict=False):
        end = experiment.source.end(theta, key, name)
        if plane.align is not None:
            load(end, line.at(*point))
            set_statistics(end, line.statistics.at(*point) if line.statistics else {})
        if experiment.job.values.evaluate.batchnorm == "keep":
            set_statistics(end, theta.statistics)
        network, task = in_own_dtype(end.eval(), experiment.task)
        task.calibrate(network)
        if losses := _if_possible(first_losses, network, task, batch):
            found[point] = losses
    return found


def _if_possible(evaluate: Callable[P, Losses], *args: P.args, **kwargs: P.kwargs) -> Losses | None:
    """Return what a network gives; None where it fails, since the sweep decides what becomes of such a point."""
    try:
        return evaluate(*args, **kwargs)
    except Interrupted:
        raise
    except Exception:
        return None
