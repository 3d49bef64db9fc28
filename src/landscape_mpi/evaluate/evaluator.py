"""(point, slice of the images) -> per-image losses and hits; knows no grid, no sum, no rank and no file."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.losses import Loss
from landscape_mpi.plane import Plane


class Point(NamedTuple):
    """A point of the plane: coordinates along delta and eta."""

    alpha: float
    beta: float


@dataclass(frozen=True)
class PerImage:
    """What each image of a slice gave: losses float64 [n] and, for class targets, hits bool [n]."""

    losses: NDArray[np.float64]
    hits: NDArray[np.bool_] | None

    @staticmethod
    def join(parts: "list[PerImage]") -> "PerImage":
        """Put consecutive slices together."""
        hits = [part.hits for part in parts if part.hits is not None]
        return PerImage(
            np.concatenate([part.losses for part in parts]), np.concatenate(hits) if len(hits) == len(parts) else None
        )


class Evaluator(Protocol):
    """What the sweep asks for; every engine offers just this."""

    def per_image(self, point: Point, split: str, images: slice) -> PerImage:
        """Return the losses and hits of a slice of a split's images at a point of the plane."""

    def count(self, split: str) -> int:
        """Return the number of images of a split."""


@dataclass(frozen=True)
class Task:
    """What is evaluated at every point: the splits, how inputs are normalised, and the loss."""

    splits: Mapping[str, Split]
    normalisation: Normalisation | None
    loss: Loss

    def evaluate(self, network: nn.Module, split: str, images: slice, batch: int) -> PerImage:
        """Evaluate a network (eval mode, on the device and in the dtype of its parameters) on a slice of a split.

        Raises:
            UserError: the loss does not return one value per example.
        """
        data = self.splits[split]
        inputs, targets = data.inputs[images], data.targets[images]
        with torch.inference_mode():
            parts = [self._batch(network, inputs[cut], targets[cut]) for cut in batches(len(targets), batch)]
        return PerImage.join(parts)

    def _batch(self, network: nn.Module, inputs: Tensor, targets: Tensor) -> PerImage:
        like = next(network.parameters())
        targets = targets.to(like.device)
        outputs = network(self._prepare(inputs.to(like.device), like.dtype))
        losses = self.loss(outputs, targets)
        if losses.shape != (len(targets),):
            raise UserError(
                f"loss: it returned the shape {list(losses.shape)} for {len(targets)} examples; expected one loss per "
                f"example, [{len(targets)}] (reduction='none')."
            )
        return PerImage(losses.double().cpu().numpy(), _hits(outputs, targets))

    def _prepare(self, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        if self.normalisation is not None:
            return self.normalisation.apply(inputs, dtype)
        # a copy always starts at an aligned address: matrix products differ in the last bit by where a slice starts
        return inputs.to(dtype, copy=True) if inputs.is_floating_point() else inputs


def batches(images: int, batch: int) -> Iterator[slice]:
    """Cut `images` into batches; a last batch of one joins the one before it.

    A batch of one takes another path through the convolution library and differs in the last digits, so a point
    would depend on where the slices were cut.
    """
    start = 0
    while start < images:
        stop = min(start + batch, images)
        if batch > 1 and images - stop == 1:
            stop = images
        yield slice(start, stop)
        start = stop


def _hits(outputs: Tensor, targets: Tensor) -> NDArray[np.bool_] | None:
    """Return whether each prediction is right; NaN logits are wrong. None where targets are no classes."""
    if outputs.dim() != 2 or not is_classes(targets):
        return None
    right = (outputs.argmax(1) == targets) & ~outputs.isnan().any(1)
    hits: NDArray[np.bool_] = right.cpu().numpy()
    return hits


def is_classes(targets: Tensor) -> bool:
    """Whether targets are class indices: whole numbers, one an example."""
    return targets.dim() == 1 and not targets.is_floating_point() and not targets.is_complex()


class EagerEvaluator:
    """The plain engine: the network's own forward pass with its parameters set to the point's."""

    def __init__(self, network: nn.Module, plane: Plane, task: Task, batch: int) -> None:
        """Take a network that is on its device and in its dtype; it is copied, so the caller's stays at theta*."""
        like = next(network.parameters())
        # images last in memory are faster to convolve, on CPUs and GPUs alike
        self._network = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._plane = plane.to(like.device, like.dtype)
        self._task = task
        self._batch = batch
        self._at: Point | None = None

    def per_image(self, point: Point, split: str, images: slice) -> PerImage:
        """Return the losses and hits of a slice of a split's images at a point of the plane."""
        self._move(point)
        return self._task.evaluate(self._network, split, images, self._batch)

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self._task.splits[split].targets)

    def _move(self, point: Point) -> None:
        if point == self._at:
            return
        values = self._plane.at(*point)
        with torch.no_grad():
            for name, parameter in self._network.named_parameters():
                parameter.copy_(values[name])
        self._at = point
