"""Evaluates a point by all ranks together, each some of the examples: to compare engines and precisions."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from landscape_mpi.assemble import without_tf32
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point, batches, summarise
from landscape_mpi.job import Axis, Grid
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.precision import deviation

FAR_EXAMPLES = 256
"""Examples of each split that are compared at the far corner; at the centre all are."""
PerSlice = Callable[[str, slice], PerExample]
"""(split, examples) -> what each of the examples gives."""


def per_example_at(evaluator: Evaluator, point: Point) -> PerSlice:
    """Return a function that evaluates examples of a split at one point."""
    return lambda split, examples: evaluator.per_example(point, split, examples)


def evaluate_all(
    world: World, experiment: Experiment, evaluate: PerSlice, batch: int, limit: int | None = None
) -> dict[str, PerExample]:
    """Return what the first `limit` examples of each split give, or all of them, the same on every rank; collective.

    Ranks share whole batches, so that no bit depends on how many there are.
    """
    found = {}
    for name, split in experiment.task.splits.items():
        mine = share(min(len(split), limit or len(split)), batch, world)
        part = on_ranks(world, mine.stop > mine.start, evaluate, name, mine)
        found[name] = PerExample.join([one for one in world.allgather(part) if one is not None])
    return found


def share(examples: int, batch: int, world: World) -> slice:
    """Return this rank's run of whole batches; an empty one where there are fewer batches than ranks."""
    cuts = list(batches(examples, batch))
    each = math.ceil(len(cuts) / world.size)
    mine = cuts[world.rank * each : (world.rank + 1) * each]
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
    task = replace(experiment.task, autocast=None)
    exact = together(world, EagerEvaluator, experiment.theta.network, plane, task, batch)
    errors = []
    for point, limit in ((plane.centre, None), (far_corner(values.chosen_grid), FAR_EXAMPLES)):
        ours = evaluate_all(world, experiment, per_example_at(evaluator, point), batch, limit)
        with without_tf32(experiment.precision.tf32):
            plain = evaluate_all(world, experiment, per_example_at(exact, point), batch, limit)
        errors.append(deviation(summarise(plain, task.metrics), summarise(ours, task.metrics)))
    return max(errors)
