"""Ways to evaluate a point, each by all ranks together on a slice of the images a rank; compares and writes nothing."""

import math
from collections.abc import Callable, Mapping

from landscape_mpi.evaluate import Evaluator, PerImage, Point, summarise
from landscape_mpi.evaluate.evaluator import batches
from landscape_mpi.ranks import World, together
from landscape_mpi.sweep.experiment import Experiment

Slices = Callable[[str, slice], PerImage]
"""(split, images) -> what the images give, one way."""


def at(evaluator: Evaluator, point: Point) -> Slices:
    """Return an evaluator's way at one point."""
    return lambda split, images: evaluator.per_image(point, split, images)


def evaluate_all(world: World, experiment: Experiment, evaluate: Slices, limit: int | None) -> dict[str, float]:
    """Return `train_loss`, `train_acc`, ... over the first `limit` images of each split, or all; collective."""
    splits = experiment.task.splits
    images = {name: min(len(split.targets), limit or len(split.targets)) for name, split in splits.items()}
    return evaluate_together(world, evaluate, images, experiment.job.values.metrics)


def evaluate_together(
    world: World, evaluate: Slices, images: Mapping[str, int], metrics: tuple[str, ...]
) -> dict[str, float]:
    """Return `train_loss`, `train_acc`, ... over the first images of each split; collective."""
    values: dict[str, float] = {}
    for split, count in images.items():
        mine = together(world, lambda split=split, count=count: _mine(world, evaluate, split, count))  # type: ignore[misc]
        parts = [part for part in world.everywhere(mine) if part is not None]
        values |= {f"{split}_{name}": value for name, value in summarise(PerImage.join(parts), metrics).items()}
    return values


def _mine(world: World, evaluate: Slices, split: str, count: int) -> PerImage | None:
    """Return what this rank's slice of the images gives; None where there is no slice."""
    cuts = list(batches(count, max(2, math.ceil(count / world.size))))
    return evaluate(split, cuts[world.rank]) if world.rank < len(cuts) else None
