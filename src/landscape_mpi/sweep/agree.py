"""Two ways to evaluate a point, compared by all ranks, each on a slice of the images; writes nothing."""

import math
from collections.abc import Callable, Mapping

from landscape_mpi.evaluate import PerImage, summarise
from landscape_mpi.evaluate.evaluator import batches
from landscape_mpi.ranks import World, together

RELATIVE, ABSOLUTE = 1e-5, 1e-8
"""Losses that differ by no more are the same."""

Slices = Callable[[str, slice], PerImage]
"""(split, images) -> what the images give, one way."""


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


def difference(plain: Mapping[str, float], ours: Mapping[str, float]) -> str | None:
    """Say which loss differs by more than 1e-5 of it and 1e-8; None where none does."""
    for name, expected in plain.items():
        if name.endswith("_loss") and not same(expected, ours[name]):
            split = name.removesuffix("_loss")
            return f"the plain {split} loss is {expected:.9g}, and the one on the plane is {ours[name]:.9g}"
    return None


def same(plain: float, ours: float) -> bool:
    """Whether two losses agree; NaN agrees with NaN."""
    if plain == ours or (math.isnan(plain) and math.isnan(ours)):
        return True
    return abs(ours - plain) <= RELATIVE * abs(plain) + ABSOLUTE


def _mine(world: World, evaluate: Slices, split: str, count: int) -> PerImage | None:
    """Return what this rank's slice of the images gives; None where there is no slice."""
    cuts = list(batches(count, max(2, math.ceil(count / world.size))))
    return evaluate(split, cuts[world.rank]) if world.rank < len(cuts) else None
