"""Ways to evaluate a point, each by all ranks together, some of the images a rank; compares and writes nothing."""

import math
from collections.abc import Callable, Mapping

from landscape_mpi.evaluate import Evaluator, PerImage, Point, batches, summarise
from landscape_mpi.mpi.world import World, on_ranks
from landscape_mpi.sweeping.experiment import Experiment

Slices = Callable[[str, slice], PerImage]
"""(split, images) -> what the images give, one way."""


def at(evaluator: Evaluator, point: Point) -> Slices:
    """Return an evaluator's way at one point."""
    return lambda split, images: evaluator.per_image(point, split, images)


def evaluate_all(
    world: World, experiment: Experiment, evaluate: Slices, batch: int, limit: int | None = None
) -> dict[str, PerImage]:
    """Return what the first `limit` images of each split give, or all of them, the same on every rank; collective.

    Ranks share whole batches, so that no bit depends on how many there are.
    """
    found = {}
    for name, split in experiment.task.splits.items():
        mine = share(min(len(split), limit or len(split)), batch, world)
        part = on_ranks(world, mine.stop > mine.start, evaluate, name, mine)
        found[name] = PerImage.join([one for one in world.allgather(part) if one is not None])
    return found


def means(found: Mapping[str, PerImage], metrics: tuple[str, ...]) -> dict[str, float]:
    """Return `train_loss`, `train_acc`, ... of per-image results."""
    return {
        f"{split}_{name}": value
        for split, per_image in found.items()
        for name, value in summarise(per_image, metrics).items()
    }


def share(images: int, batch: int, world: World) -> slice:
    """Return this rank's run of whole batches; an empty one where there are fewer batches than ranks."""
    cuts = list(batches(images, batch))
    each = math.ceil(len(cuts) / world.size)
    mine = cuts[world.rank * each : (world.rank + 1) * each]
    return slice(mine[0].start, mine[-1].stop) if mine else slice(0, 0)
