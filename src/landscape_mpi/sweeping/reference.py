"""What the callable's own network gives of the first examples, at theta* and at points of a plane; knows no engine.

It is evaluated as torch's users do it: laid out as it was made, in its own dtype, its weights loaded before eval mode.
What it gives is what every engine, layout and copy has to give.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.evaluate import Batch, Point, Task
from landscape_mpi.evaluate.fresh import fresh
from landscape_mpi.networks.copies import cast, duplicate, own_dtype
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import Theta

FIRST = 32
"""Examples of each split that are compared."""
DRAWS, FACTOR = 2, 8.0
"""How often weights are changed in their last digits, and how many times as much rounding may change a loss."""

Losses = Mapping[str, NDArray[np.float64]]
"""The losses of the first examples of each split, by its name."""


class Own(NamedTuple):
    """A network on the task's device in its own dtype, or in float32 where that is less, and the task in that dtype."""

    network: nn.Module
    task: Task


def own(network: nn.Module, task: Task) -> Own:
    """Return a network, or its copy on the task's device, and the task as it suits it."""
    low = any(p.is_floating_point() and torch.finfo(p.dtype).bits < 32 for p in network.parameters())
    dtype = torch.float32 if low else own_dtype(network)
    if low:
        network = cast(duplicate(network), task.device, dtype)
    elif task.device.type != "cpu":
        network = duplicate(network).to(task.device)
    return Own(network, replace(task, dtype=dtype))


def first_losses(network: nn.Module, task: Task, batch: int | Literal["auto"]) -> Losses:
    """Return the losses of the first examples of each split by a network in eval mode, at most `batch` at a time."""
    held, some = Batch(FIRST if batch == "auto" else min(batch, FIRST)), slice(0, FIRST)
    return {
        split: held.attempt(lambda n, split=split: task.evaluate(network, split, some, n)).losses  # type: ignore[misc]
        for split in task.splits
    }


@dataclass(frozen=True)
class Reference:
    """The network at points of a plane: a copy of its own each, with the point's weights loaded, then in eval mode.

    Attributes:
        made: the network in train mode.
        plane: of its parameters, in its dtype.
        batch: examples at a time.
        last: the largest relative error of rounding a number, in the dtype of the evaluation.
    """

    made: Own
    plane: Plane
    batch: int
    last: float

    @staticmethod
    def of(theta: Theta, plane: Plane, task: Task, batch: int) -> "Reference":
        """Return the reference of a plane through theta*."""
        made = own(theta.origin, task)
        last = max(torch.finfo(dtype).eps for dtype in (task.dtype, made.task.dtype))
        return Reference(made, plane.to(task.device, made.task.dtype), batch, last)

    def at(self, point: Point) -> Losses:
        """Return what the first examples give at a point."""
        return self._at(self.plane, point)

    def slack(self, point: Point) -> dict[str, float]:
        """Return by how much rounding may change the mean losses at a point; 0 where they change by themselves.

        Found by weights whose last digits are changed: where a loss makes much of that, no two ways to compute agree.
        """
        losses, again = self.at(point), self.at(point)
        if any(not np.array_equal(found, losses[name], equal_nan=True) for name, found in again.items()):
            return dict.fromkeys(losses, 0.0)
        generator = torch.Generator().manual_seed(0)
        found = dict.fromkeys(losses, 0.0)
        for _ in range(DRAWS):
            theta = {name: self._changed(tensor, generator) for name, tensor in self.plane.theta.items()}
            for name, changed in self._at(replace(self.plane, theta=theta), point).items():
                found[name] = max(found[name], FACTOR * distance(losses[name], changed))
        return found

    def _at(self, plane: Plane, point: Point) -> Losses:
        network, _ = fresh(self.made.network, plane, self.made.task, point)
        return first_losses(network, self.made.task, self.batch)

    def _changed(self, tensor: Tensor, generator: torch.Generator) -> Tensor:
        signs = torch.randint(0, 2, tensor.shape, generator=generator) * 2 - 1
        return tensor + 2 * self.last * tensor * signs.to(tensor.device)


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return how far the means of the finite losses are apart; inf where a loss is finite in one of the two alone.

    What overflows first decides whether a loss is NaN or inf, which counts as the same.
    """
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    return abs(float(a[finite].mean()) - float(b[finite].mean())) if finite.any() else 0.0
