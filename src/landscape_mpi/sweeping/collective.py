"""Evaluates a point by all ranks together, each some of the examples: to compare engines and precisions."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np

from landscape_mpi.assemble import without_tf32
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point, Task, batches
from landscape_mpi.evaluate.eager import TeamEvaluator
from landscape_mpi.job import Axis, Grid
from landscape_mpi.metrics.examples import PerExample, summarise
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.precision import deviation

if TYPE_CHECKING:
    from landscape_mpi.evaluate.sharded import Sharded

FAR_EXAMPLES = 256
"""Examples of each split that are compared at the far corner; at the centre all are."""
PerSlice = Callable[[str, slice], PerExample]
"""(split, examples) -> what each of the examples gives."""


def per_example_at(evaluator: Evaluator, point: Point) -> PerSlice:
    """Return a function that evaluates examples of a split at one point."""
    return lambda split, examples: evaluator.per_example(point, split, examples)


def in_place(experiment: Experiment, plane: Plane, task: Task, batch: int) -> EagerEvaluator:
    """Return the network's own forward pass at points of a plane, whose weights are set in place."""
    if experiment.team is None:
        return EagerEvaluator(experiment.theta.network, plane, task, batch)
    return TeamEvaluator(cast("Sharded", experiment.theta.network), plane, task, batch, experiment.team)


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


def far_corner(grid: Grid) -> Point:
    """Return the corner of a grid that is farthest from the centre."""

    def farthest(axis: Axis) -> float:
        coordinates = axis.coordinates()
        return float(coordinates[np.abs(coordinates).argmax()])

    return tuple(farthest(axis) for axis in grid.axes)


def precision_error(world: World, experiment: Experiment, plane: Plane, evaluator: Evaluator) -> float:
    """Return the maximum relative error of the mean losses against those of the plain network in float32; collective.

    At the centre over all examples, at the corner of the grid farthest from it over 256 of each split.
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
