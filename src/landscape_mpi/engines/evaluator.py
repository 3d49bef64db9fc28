"""The fused engine: (point, slice of the images) -> losses and hits, by a network whose weights are one buffer."""

from collections.abc import Sequence

import torch
from torch import nn

from landscape_mpi.engines.layer import Layer
from landscape_mpi.engines.rewrite import fuse
from landscape_mpi.evaluate import PerImage, Point, Task
from landscape_mpi.plane import Plane


class FusedEvaluator:
    """Evaluates points of one plane with fused layers."""

    def __init__(self, network: nn.Module, plane: Plane, task: Task, batch: int, kinds: Sequence[type[Layer]]) -> None:
        """Take a network on its device and in its dtype; it is copied, so the caller's stays at theta.

        Raises:
            CannotFuseError: the network cannot be transformed.
        """
        sample = task.inputs(next(iter(task.splits)), slice(0, 2))
        self._fused = fuse(network, plane, kinds, sample)
        self._task = task
        self._batch = batch

    def per_image(self, point: Point, split: str, images: slice) -> PerImage:
        """Return the losses and hits of a slice of a split's images at a point of the plane."""
        with torch.inference_mode():
            self._fused.plane.move(*point)
        return self._task.evaluate(self._fused.forward, split, images, self._batch)

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self._task.splits[split].targets)

    @property
    def description(self) -> str:
        """Say how many convolutions are fused, and into layers of which kind."""
        layers = self._fused.layers
        kinds = ", ".join(f"{count} {label}" for label, count in layers.items())
        return f"{layers.total()} fused convolutions ({kinds})"
