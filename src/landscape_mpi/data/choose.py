"""Which examples of a split a job takes: the first ones, or the first in a random order; knows no file."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.sampling.order import uniforms

STREAM = 1 << 32
"""Of the random numbers: another than those of `sampling`, which takes the number of a split."""


@dataclass(frozen=True)
class Choice:
    """The first `limit` examples, None for all, in the random order of a seed, None for the order of the data."""

    limit: int | None = None
    order: int | None = None

    @property
    def first(self) -> int | None:
        """How many examples have to be read where the first ones will do; None for all."""
        return self.limit if self.order is None else None

    def of(self, count: int) -> slice | NDArray[np.int64]:
        """Return the examples of `count`; a random order is a function of the seed and of their number alone."""
        wanted = min(count, self.limit or count)
        if self.order is None:
            return slice(0, wanted)
        return np.argsort(uniforms(self.order, count, STREAM), kind="stable")[:wanted].astype(np.int64)

    def note(self, split: str, targets: Tensor, count: int, classes: int | None = None) -> tuple[str, ...]:
        """Say where the examples that were taken have few of the classes, as those of a set sorted by class.

        Args:
            split: its name.
            targets: of the examples that were taken.
            count: how many examples there are to take from.
            classes: how many classes all of them have; None where that is not known.
        """
        if self.limit is None or len(targets) >= count or not _are_classes(targets):
            return ()
        held = torch.unique(targets)
        if 2 * len(held) > min(len(targets), classes or 2):
            return ()
        what = f"{len(held)} classes alone" if len(held) > 1 else f"class {int(held[0])} alone"
        of = f", of {classes} classes" if classes else ""
        way = "" if self.order is not None else "; data.order: 0 takes them in a random order"
        return (f"{split}: the {len(targets):,} examples taken of {count:,} hold {what}{of}{way}.",)


def count_classes(targets: Tensor) -> int | None:
    """Return how many classes there are among all targets; None where they are no classes."""
    return len(torch.unique(targets)) if _are_classes(targets) else None


def _are_classes(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex()) and 0 < targets.numel() == len(targets)
