"""The fused engine: (point, some of the images) -> losses and hits, by a network whose weights are one buffer."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from landscape_mpi.engines.layer import Layer
from landscape_mpi.engines.replay import Lane, Replay
from landscape_mpi.engines.rewrite import CannotFuseError, fuse
from landscape_mpi.evaluate import ONE_LANE, Batch, Images, Lanes, Network, PerImage, Point, Task
from landscape_mpi.plane import Plane


class FusedEvaluator:
    """Evaluates points of one plane with fused layers; replayed on lanes where it is given any."""

    def __init__(
        self,
        network: nn.Module,
        plane: Plane,
        task: Task,
        batch: int,
        kinds: Sequence[type[Layer]],
        lanes: Sequence[Lane] = (),
    ) -> None:
        """Take a network on its device and in its dtype; it is copied, so the caller's stays at theta.

        Raises:
            CannotFuseError: the network cannot be transformed.
        """
        self._task = task
        self._fused = fuse(network, plane, kinds, self._inputs(next(iter(task.splits)), 2))
        self._batch = Batch(batch)
        self._asked = batch
        self._replay = self._record(lanes) if lanes else None

    def per_image(self, point: Point, split: str, images: Images) -> PerImage:
        """Return the losses and hits of some of a split's images at a point of the plane."""
        with torch.inference_mode():
            self._fused.plane.move(*point)
        return self._batch.attempt(lambda batch: self._evaluate(split, images, batch))

    def count(self, split: str) -> int:
        """Return the number of images of a split."""
        return len(self._task.splits[split])

    @property
    def nbytes(self) -> int:
        """Memory of the flat buffers, in bytes; Winograd's weights take four times their share of the network."""
        return self._fused.plane.nbytes

    @property
    def batch(self) -> int:
        """Return the number of images at a time."""
        return self._batch.images

    @property
    def description(self) -> str:
        """Say how many convolutions are fused, into layers of which kind, and whether they are replayed."""
        layers = self._fused.layers
        kinds = ", ".join(f"{count} {label}" for label, count in layers.items())
        replay = f", {self._replay.description}" if self._replay else ""
        plural = "s" if layers.total() > 1 else ""
        return f"{layers.total()} fused convolution{plural} ({kinds}){replay}"

    @property
    def note(self) -> str:
        """Return nothing: what does not change from point to point cannot go wrong at one."""
        return ""

    def _evaluate(self, split: str, images: Images, batch: int) -> PerImage:
        if batch < self._asked:
            self._replay = None  # recorded for batches that do not fit, and its memory is wanted
        network: Network = self._replay or self._fused.forward
        lanes: Lanes = self._replay or ONE_LANE
        return self._task.evaluate(network, split, images, batch, lanes)

    def _record(self, lanes: Sequence[Lane]) -> Replay:
        with torch.inference_mode():
            return Replay(partial(self._task.forward, self._fused.forward), lanes, self._full_batch())

    def _full_batch(self) -> Tensor:
        """Return as many images as most batches will have."""
        largest = max(self._task.splits, key=self.count)
        return self._inputs(largest, self._asked)

    def _inputs(self, split: str, count: int) -> Tensor:
        """Return the first inputs of a split.

        Raises:
            CannotFuseError: they are not one tensor.
        """
        inputs = self._task.inputs(split, slice(0, count))
        if not isinstance(inputs, Tensor):
            raise CannotFuseError(f"its inputs are several tensors ({', '.join(inputs)})")
        return inputs
