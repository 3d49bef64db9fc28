"""Whether an evaluator gives what the callable's own network gives at theta* and around it; writes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from landscape_mpi.errors import CentreMismatchError, UserError
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point
from landscape_mpi.evaluate.batchnorm import set_statistics
from landscape_mpi.evaluate.evaluator import fast_copy
from landscape_mpi.job import Axis, Grid, InterpolatedPlane
from landscape_mpi.mpi.signals import Interrupted
from landscape_mpi.mpi.world import World, together
from landscape_mpi.networks.copies import cast
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.experiment import Experiment
from landscape_mpi.sweeping.planes import is_whole
from landscape_mpi.sweeping.precision import Tolerance
from landscape_mpi.sweeping.reference import FIRST, Losses, Reference, distance, first_losses, own

CENTRE, TO, VIA = Point(0.0, 0.0), Point(1.0, 0.0), Point(0.0, 1.0)
ENDS = {TO: "plane.to", VIA: "plane.via"}
"""Where an interpolation ends, and the keys that name what is there."""
ABOUT_HALF = 0.4717


@dataclass(frozen=True)
class Difference:
    """Where an evaluator differs from the network itself, and how, in words."""

    point: Point
    text: str

    def __str__(self) -> str:
        """Return both in words."""
        return f"at alpha {self.point.alpha:g}, beta {self.point.beta:g} {self.text}"


@dataclass(frozen=True)
class Comparison:
    """What the callable's own network gives of the first examples at some points, to compare evaluators with.

    Attributes:
        reference: the network there.
        known: what it gives, by point.
        tolerance: how close an evaluator has to come.
    """

    reference: Reference
    known: Mapping[Point, Losses]
    tolerance: Tolerance

    @staticmethod
    def of(experiment: Experiment, plane: Plane, batch: int, points: tuple[Point, ...] = ()) -> "Comparison":
        """Return the comparison at theta*, at the ends of an interpolation, and at points, by default around theta*."""
        reference = Reference.of(experiment.theta, plane, experiment.task, batch)
        known = {CENTRE: reference.at(CENTRE) if experiment.anew else experiment.centre}
        for point in points or around_centre(experiment.job.values.chosen_grid):
            if losses := _if_possible(partial(reference.at, point)):
                known[point] = losses
        return Comparison(reference, known | own_ends(experiment, batch), experiment.precision.tolerance)

    @property
    def flat(self) -> bool:
        """Whether the first examples give the same to the bit at all points, though the plane moves parameters."""
        first, *others = [np.concatenate(list(losses.values())) for losses in self.known.values()]
        same = all(np.array_equal(first, other, equal_nan=True) for other in others)
        return bool(others) and same and self.reference.plane.norms[0] > 0

    def differs(self, world: World, evaluator: Evaluator) -> Difference | None:
        """Return where an evaluator differs first, on the first rank where it does; collective."""
        found = world.allgather(together(world, self._first, evaluator))
        return next((difference for difference in found if difference), None)

    def _first(self, evaluator: Evaluator) -> Difference | None:
        texts = ((point, self._at(evaluator, point)) for point in self.known)
        return next((Difference(point, text) for point, text in texts if text), None)

    def _at(self, evaluator: Evaluator, point: Point) -> str | None:
        expected, some = self.known[point], slice(0, FIRST)
        try:
            found = {split: evaluator.per_image(point, split, some).losses for split in expected}
        except Interrupted:
            raise
        except Exception as error:
            return f"it failed ({type(error).__name__}: {error})"
        if self._how(expected, found, {}) is None:
            return None
        return self._how(expected, found, self.reference.slack(point))  # it may be no more than rounding

    def _how(self, expected: Losses, found: Losses, slack: Mapping[str, float]) -> str | None:
        for split, losses in expected.items():
            size = abs(float(losses[np.isfinite(losses)].mean())) if np.isfinite(losses).any() else 0.0
            allowed = self.tolerance.relative * size + self.tolerance.absolute + slack.get(split, 0.0)
            if distance(losses, found[split]) > allowed:
                plain, ours = float(losses.mean()), float(found[split].mean())
                first = f"the mean {split} loss of the first {len(losses)} examples"
                return f"{first} is {plain:.9g} by the network itself and {ours:.9g} on the plane"
        return None


def needs_afresh(world: World, experiment: Experiment, comparison: Comparison) -> Difference | None:
    """Return why each point needs a copy of the network of its own; None where weights can be set in place; collective.

    Raises:
        CentreMismatchError: neither way gives f(0, 0).
        UserError: neither way gives the network's own losses elsewhere.
    """
    plane, batch = comparison.reference.plane, comparison.reference.batch
    in_place = together(world, evaluator_of, experiment, plane, batch, afresh=False)
    reason = comparison.differs(world, in_place)
    if reason is None:
        return None
    afresh = together(world, evaluator_of, experiment, plane, batch, afresh=True)
    if failure := comparison.differs(world, afresh):
        raise _refusal(failure, comparison.tolerance, isinstance(experiment.job.values.plane, InterpolatedPlane))
    return reason


def _refusal(found: Difference, tolerance: Tolerance, interpolated: bool) -> Exception:
    expected = f"{found}; expected them equal to {tolerance.relative:.0e}. A network"
    if found.point == CENTRE:
        does = "that draws random numbers in eval mode, or changes its own state, does this"
        return CentreMismatchError(f"f(0, 0) does not match: {expected} {does}.")
    if interpolated and found.point in ENDS:
        does = (
            "with parts that are neither parameters nor in its state dict does this, where they differ at the two ends"
        )
        return UserError(f"{ENDS[found.point]}: {expected} {does}.")
    does = "that keeps what it once computed, or depends on its dtype or on its tensors' layout, does this"
    return UserError(f"model.build: {expected} {does}.")


def evaluator_of(experiment: Experiment, plane: Plane, batch: int, *, afresh: bool) -> EagerEvaluator:
    """Return the network's own forward pass at points of a plane, set in place or made afresh at each."""
    task, theta = experiment.task, experiment.theta
    if not afresh:
        return EagerEvaluator(theta.network, plane, task, batch)
    origin = cast(fast_copy(theta.origin, task.layout), task.device, task.dtype)
    return EagerEvaluator(origin, plane, task, batch, afresh=True)


def around_centre(grid: Grid) -> tuple[Point, ...]:
    """Return a point each way from the centre, about half-way to the end of the grid; one where the grid begins at 0.

    No point of a usual grid: one at which a rank dies would be the end of every run, before any point is computed.
    """
    beta = (0.0, 0.0) if grid.beta is None else _halves(grid.beta)
    points = zip(_halves(grid.alpha), beta, strict=True)
    return tuple(point for point in (Point(*place) for place in points) if point != CENTRE)


def _halves(axis: Axis) -> tuple[float, float]:
    coordinates = axis.coordinates()
    return ABOUT_HALF * float(coordinates.min()), ABOUT_HALF * float(coordinates.max())


def own_ends(experiment: Experiment, batch: int) -> dict[Point, Losses]:
    """Return what the networks at both ends of an interpolation give by themselves.

    Nothing where the plane does not go all the way. Where running statistics of batch norm stay, these have theta*'s.
    """
    plane, theta, task = experiment.job.values.plane, experiment.theta, experiment.task
    if not (isinstance(plane, InterpolatedPlane) and is_whole(plane)):
        return {}
    found = {}
    for point, name in ((TO, plane.to), (VIA, plane.via)):
        if name is not None:
            network = experiment.source.end(theta, ENDS[point], name)
            if experiment.job.values.evaluate.batchnorm == "keep":
                set_statistics(network, theta.statistics)
            made = own(network.eval(), task)
            made.task.calibrate(made.network)
            if losses := _if_possible(partial(first_losses, *made, batch)):
                found[point] = losses
    return found


def _if_possible(evaluate: Callable[[], Losses]) -> Losses | None:
    """Return what a network gives; None where it fails: what becomes of such a point is for the sweep."""
    try:
        return evaluate()
    except Interrupted:
        raise
    except Exception:
        return None
