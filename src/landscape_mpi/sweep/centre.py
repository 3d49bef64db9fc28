"""f(0, 0) on the plane against the plain evaluation of the checkpoint; writes nothing."""

import math
from collections.abc import Mapping

from torch import nn

from landscape_mpi.errors import CentreMismatchError
from landscape_mpi.evaluate import Evaluator, PerImage, Point, Task, summarise
from landscape_mpi.evaluate.evaluator import batches
from landscape_mpi.sweep.world import World, together

RELATIVE, ABSOLUTE = 1e-5, 1e-8


def check_centre(
    world: World, network: nn.Module, evaluator: Evaluator, task: Task, batch: int, metrics: tuple[str, ...]
) -> Mapping[str, float]:
    """Compare the loss of every split at the centre; each rank evaluates a slice of the images. Collective.

    Returns:
        The plain results of the checkpoint: `train_loss`, `train_acc`, ...

    Raises:
        CentreMismatchError: a loss differs by more than 1e-5 of it and 1e-8.
    """
    plain: dict[str, float] = {}
    for split in task.splits:
        pairs = together(world, lambda split=split: _slice(world, network, evaluator, task, batch, split))  # type: ignore[misc]
        both = [_joined(parts, metrics) for parts in zip(*_present(world.everywhere(pairs)), strict=True)]
        _compare(split, both[0]["loss"], both[1]["loss"])
        plain |= {f"{split}_{name}": value for name, value in both[0].items()}
    return plain


def _slice(
    world: World, network: nn.Module, evaluator: Evaluator, task: Task, batch: int, split: str
) -> tuple[PerImage, PerImage] | None:
    """Return what this rank's slice of the images gives, plainly and on the plane; None where there is no slice."""
    images = evaluator.count(split)
    cuts = list(batches(images, max(2, math.ceil(images / world.size))))
    if world.rank >= len(cuts):
        return None
    cut = cuts[world.rank]
    return task.evaluate(network, split, cut, batch), evaluator.per_image(Point(0.0, 0.0), split, cut)


def _present(pairs: list[tuple[PerImage, PerImage] | None]) -> list[tuple[PerImage, PerImage]]:
    return [pair for pair in pairs if pair is not None]


def _joined(parts: tuple[PerImage, ...], metrics: tuple[str, ...]) -> dict[str, float]:
    return summarise(PerImage.join(list(parts)), metrics)


def _compare(split: str, plain: float, ours: float) -> None:
    same = plain == ours or (math.isnan(plain) and math.isnan(ours))
    if not same and not abs(ours - plain) <= RELATIVE * abs(plain) + ABSOLUTE:
        raise CentreMismatchError(
            f"f(0, 0) does not match: the {split} loss of the checkpoint is {plain:.9g} and on the plane it is "
            f"{ours:.9g}; expected them equal to {RELATIVE:g}. A network that draws random numbers in eval mode, or "
            "changes its own state, does this."
        )
