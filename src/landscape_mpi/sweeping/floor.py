"""Measures what an evaluation can resolve: the rise |f - f(0, 0)| below which rounding decides, against float64."""

import gc
import math
from dataclasses import replace

import torch

from landscape_mpi.assemble import give_back_memory, without_tf32
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point
from landscape_mpi.evaluate.live import Streaming
from landscape_mpi.job import Grid
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import summarise
from landscape_mpi.metrics.registry import is_mean
from landscape_mpi.mpi.world import World, together
from landscape_mpi.networks.state import cast, duplicate
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.check_network import (
    FAR_EXAMPLES,
    evaluate_all,
    evaluator_of,
    far_corner,
    in_place,
    per_example_at,
)
from landscape_mpi.sweeping.large import without_weights
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.precision import deviation
from landscape_mpi.sweeping.theta import FIRST_EXAMPLES, FIRST_OF_LARGE

STEPS, FACTOR = 5, 4
"""Points along each axis: first its ends divided by FACTOR^STEPS, then each FACTOR times as far as the one before."""
DECIDES = 0.1
"""Rounding decides where the error of a rise is more than this share of it."""
SHARE = 300
"""One example is measured for so many evaluations of the sweep, so that a few hundredths of its time are spent."""
WORTH = 20_000
"""Evaluations of a sweep in float32 from which on the floor of a small network is measured; SHARE for a large one."""


def is_measured(experiment: Experiment) -> bool:
    """Return whether the floor of a surface is measured when it is created: not where it would be most of the work."""
    precision = experiment.precision
    if precision.dtype == torch.float64 or not along_axes(experiment.job.values.chosen_grid, 1):
        return False
    return precision.reduced or _evaluations(experiment) >= (SHARE if experiment.theta.is_large else WORTH)


def _evaluations(experiment: Experiment) -> int:
    points = math.prod(experiment.job.values.chosen_grid.shape)
    return points * sum(len(split) for split in experiment.task.splits.values())


def precision_floor(
    world: World, experiment: Experiment, plane: Plane, evaluator: Evaluator, *, afresh: bool = False
) -> float:
    """Return the |f - f(0, 0)| below which rounding decides, in the unit of the loss; collective, the same on all.

    Rounding is that of weights and of what the network computes from them, in the precision of the sweep. The rise of
    the mean loss above theta*, over the first examples of each split, is compared with that in float64 from the same
    theta* and directions. The comparison begins close to theta* on both sides along each axis. It goes further out
    until the error of the rise is at most a tenth of the rise everywhere. The floor is the largest of the errors that
    exceed this, and of those of the first step.
    With few examples the rounding of activations averages out less than in the sweep, so that the floor is rather too
    high.

    Args:
        world: The ranks, which share the examples.
        experiment: Network, data and job.
        plane: The plane of the surface.
        evaluator: What evaluates the surface's points.
        afresh: Whether each point gets a network of its own.

    Raises:
        UserError: the network cannot be evaluated in float64.
        RankError: the same, where anything other than the user's own code fails.
    """
    exact = together(world, in_float64, experiment, plane, evaluator.batch, afresh)
    first = FIRST_OF_LARGE if experiment.theta.is_large else FIRST_EXAMPLES
    examples = min(first, max(1, _evaluations(experiment) // SHARE))

    def losses(one: Evaluator, point: Point) -> list[float]:
        found = evaluate_all(world, experiment, per_example_at(one, point), evaluator.batch, examples)
        means = summarise(found, experiment.task.metrics)
        return [value for name, value in means.items() if is_mean(name, LOSS)]

    def rises(one: Evaluator, points: tuple[Point, ...], centre: list[float]) -> list[float]:
        return [a - b for point in points for a, b in zip(losses(one, point), centre, strict=True)]

    at_centre = losses(evaluator, plane.centre), losses(exact, plane.centre)
    floor = 0.0
    for step in range(STEPS, 0, -1):
        points = along_axes(experiment.job.values.chosen_grid, FACTOR**-step)
        pairs = zip(rises(evaluator, points, at_centre[0]), rises(exact, points, at_centre[1]), strict=True)
        known = [(abs(ours - rise), abs(rise)) for ours, rise in pairs if math.isfinite(ours) and math.isfinite(rise)]
        deciding = [error for error, rise in known if error > DECIDES * rise or step == STEPS]
        floor = max([floor, *deciding])
        if not any(error > DECIDES * rise for error, rise in known):
            break
    if experiment.theta.is_large:
        del exact
        gc.collect()  # modules refer to each other; the memory of the reference is free for the points
        give_back_memory()
    return floor


def floor_text(dtype: str, floor: float) -> str:
    """Say what a floor is, in the line that a sweep prints.

    >>> floor_text("bfloat16", 0.00123)
    'bfloat16: where |f - f(0, 0)| is below 0.0012 rounding decides (precision floor, against float64).'
    """
    where = f"where |f - f(0, 0)| is below {floor:.2g} rounding decides"
    return f"{dtype}: {where} (precision floor, against float64)."


def along_axes(grid: Grid, share: float) -> tuple[Point, ...]:
    """Return the points at a share of the way from the centre to each end of each axis.

    >>> from landscape_mpi.job import Axis
    >>> along_axes(Grid(alpha=Axis(-1, 1, 5), beta=Axis(0, 2, 5)), 0.5)
    ((-0.5, 0.0), (0.5, 0.0), (0.0, 1.0))
    """
    axes = grid.coordinates()
    ends = [(axis, float(end)) for axis, at in enumerate(axes) for end in (at.min(), at.max()) if end]
    return tuple(tuple(share * end if i == axis else 0.0 for i in range(len(axes))) for axis, end in ends)


def in_float64(experiment: Experiment, plane: Plane, batch: int, afresh: bool) -> EagerEvaluator:
    """Return the network's own forward pass in float64; a large network holds one layer's weights at a time."""
    theta, task = experiment.theta, replace(experiment.task.exact, dtype=torch.float64)
    if theta.is_large:
        network = without_weights(theta.origin, task.device, task.dtype)
        return EagerEvaluator(Streaming(network, plane, task.device, task.dtype), plane, task, batch)
    wide = cast(duplicate(theta.module), task.device, task.dtype)
    return evaluator_of(replace(experiment, theta=replace(theta, network=wide), task=task), plane, batch, afresh=afresh)


def precision_error(world: World, experiment: Experiment, plane: Plane, evaluator: Evaluator) -> float:
    """Return the maximum relative error of the mean losses against those of the plain network in float32; collective.

    It is measured at the centre over all examples, and at the corner of the grid farthest from it over 256 of each
    split.
    """
    batch, values = evaluator.batch, experiment.job.values
    task = experiment.task.exact
    exact = together(world, in_place, experiment, plane, task, batch)
    errors = []
    for point, limit in ((plane.centre, None), (far_corner(values.chosen_grid), FAR_EXAMPLES)):
        ours = evaluate_all(world, experiment, per_example_at(evaluator, point), batch, limit)
        with without_tf32(experiment.precision.tf32):
            plain = evaluate_all(world, experiment, per_example_at(exact, point), batch, limit)
        errors.append(deviation(summarise(plain, task.metrics), summarise(ours, task.metrics)))
    return max(errors)
