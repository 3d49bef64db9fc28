"""Evaluates points by the network's own forward pass, with its parameters set to the point's or in a fresh copy."""

import torch
from torch import nn

from landscape_mpi.data.split import count
from landscape_mpi.evaluate.batches import Batch, Examples
from landscape_mpi.evaluate.batchnorm import set_statistics
from landscape_mpi.evaluate.evaluator import Point, Task, fast_copy
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.networks.copies import duplicate, load
from landscape_mpi.plane import Plane


class EagerEvaluator:
    """The plain engine: the network's own forward pass with its parameters set to the point's."""

    def __init__(self, network: nn.Module, plane: Plane, task: Task, batch: int, *, afresh: bool = False) -> None:
        """Take a network that is on its device and in its dtype; it is copied, so the caller's stays at theta*.

        Args:
            network: in eval mode; with `afresh` in train mode.
            plane: of its parameters.
            task: what is evaluated.
            batch: examples at a time.
            afresh: whether each point gets a copy of its own, which is put into eval mode there: for networks that
                compute something from their weights once. Else the parameters of one copy are set to each point's.
        """
        self._network = fast_copy(network, task.layout)
        self._origin = self._network if afresh else None
        self._plane = plane.to(task.device, task.dtype)
        self._task = task
        self._batch = Batch(batch)
        self._at: Point | None = None
        self._held = 0

    def per_example(self, point: Point, split: str, examples: Examples) -> PerExample:
        """Return the losses, and what other metrics say, of some of a split's examples at a point of the plane."""
        self._move(point)
        return self._batch.attempt(lambda batch: self._task.evaluate(self._network, split, examples, batch))

    def network_at(self, point: Point) -> nn.Module:
        """Return the network at a point of the plane, in eval mode; it stays this evaluator's own."""
        self._move(point)
        return self._network

    @property
    def centre(self) -> Point:
        """The point of theta*."""
        return self._plane.centre

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(self._task.splits[split])

    @property
    def nbytes(self) -> int:
        """Memory of the plane on the device and of the network, in bytes."""
        copies = 2 + len(self._plane.directions)
        return copies * sum(tensor.nbytes for tensor in self._plane.theta.values())

    @property
    def batch(self) -> int:
        """Return the number of examples at a time."""
        return self._batch.examples

    @property
    def description(self) -> str:
        """Say how points are evaluated."""
        afresh = ", a fresh copy at every point" if self._origin is not None else ""
        along = self._plane.statistics.theta if self._plane.statistics else ()
        what = "running statistics" if all(".running_" in f".{name}" for name in along) else "buffers"
        moved = f", {what} moved along" if along else ""
        examples = self._task.calibration
        estimated = (
            "" if examples is None else f", running statistics from {count(examples):,} training examples a point"
        )
        return f"the network's own forward pass{afresh}{moved}{estimated}"

    @property
    def note(self) -> str:
        """Say where variances would have been negative."""
        return f"{self._held} running variances held at 0" if self._held else ""

    def _move(self, point: Point) -> None:
        if point == self._at:
            return
        self._at = None  # until all of it is there: what follows can be interrupted
        if self._origin is not None:
            self._network, self._held = fresh(self._origin, self._plane, self._task, point)
        else:
            values, statistics = self._plane.at(*point), self._plane.statistics
            with torch.no_grad():
                for name, parameter in self._network.named_parameters():
                    if name in values:
                        parameter.copy_(values[name])
            if statistics is not None:
                self._held = set_statistics(self._network, statistics.at(*point))
            self._task.calibrate(self._network)
        self._at = point


def fresh(origin: nn.Module, plane: Plane, task: Task, point: Point) -> tuple[nn.Module, int]:
    """Return a copy of a network at a point, in eval mode, and how many running variances are held at 0 there.

    It is made the way users make one: the point's weights loaded, then eval mode. What a network computes from its
    weights when it enters eval mode, as merged low-rank updates and fused branches are, or at its first forward pass,
    is that of the point then. Weights that are set in place leave such things as they were.

    Args:
        origin: The network in train mode, as it was made, on the task's device.
        plane: Of its parameters.
        task: Estimates running statistics anew, where it does.
        point: Where on the plane.
    """
    network = duplicate(origin)
    load(network, plane.at(*point))
    held = set_statistics(network, plane.statistics.at(*point)) if plane.statistics else 0
    network.eval()
    if task.calibration is not None:
        task.calibrate(network)
        network.train()
        network.eval()  # once more: what it computed there may hold the statistics before
    return network, held
