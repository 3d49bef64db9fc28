"""Names and builds the engines; evaluates points by a network with fused layers whose weights lie in one buffer."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.data.split import Examples, parts
from landscape_mpi.engines.cuda_graphs import Lane, Replay, lanes_of
from landscape_mpi.engines.fuse import fuse
from landscape_mpi.engines.layers import CompiledLayer, DirectLayer, Layer, PlainLayer, library
from landscape_mpi.engines.trace import CannotFuseError, OtherBranchError
from landscape_mpi.evaluate import ONE_LANE, Batch, EagerEvaluator, Evaluator, Lanes, Network, Point, Task
from landscape_mpi.evaluate.live import Resident
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.plane import Plane

EAGER = "eager"
LAYERS: dict[str, tuple[type[Layer], ...]] = {
    "compiled": (CompiledLayer, DirectLayer),
    "fused": (DirectLayer,),
}
"""Engines with fused layers, the fastest first, and the kinds of layers of each, the preferred one first."""
ENGINES = (*LAYERS, EAGER)
DELETED = ("cudnn", "winograd")
"""Engines of version 0.1.0 that surfaces may have been begun with."""
SAMPLES = (2, 16)
"""Examples that a network is traced with, and that it is compared on."""


def candidates(requested: str, task: Task, plane: Plane) -> tuple[str, ...]:
    """Return the engines to try in turn; the last is always the network's own forward pass.

    `auto` is the fastest engine for the device. float64 is for reference and stays with the network's own forward pass.
    bfloat16 on a CPU stays with it too, because fused layers compute in float32 there. The same holds for running
    statistics that change from point to point, because fused layers hold them in their weights. It also holds for
    networks that take gradients, inputs of several tensors, products of two words (which torch's own layers compute),
    and metrics that call the network themselves.
    """
    called = task.words or any(metric.needs == "network" for metric in task.metrics)
    if called or task.calibration is not None or plane.statistics is not None or task.gradients != "inference":
        return (EAGER,)
    if requested != "auto":
        return (requested, EAGER) if requested != EAGER else (EAGER,)
    if task.dtype != torch.float32 or not all(isinstance(split.inputs, Tensor) for split in task.splits.values()):
        return (EAGER,)
    if task.device.type != "cpu":
        return ("fused", EAGER)
    if task.autocast is not None:
        return (EAGER,)
    return ("compiled", "fused", EAGER) if library() else ("fused", EAGER)


def kernel_is_missing(engine: str) -> bool:
    """Whether an engine needs the compiled kernel, which this installation lacks."""
    return engine == "compiled" and library() is None


def build_engine(engine: str, network: nn.Module, plane: Plane, task: Task, batch: int) -> Evaluator:
    """Return the evaluator of an engine.

    Raises:
        CannotFuseError: the network cannot be transformed for this engine.
    """
    if engine == EAGER:
        return EagerEvaluator(network, plane, task, batch)
    kinds = LAYERS[engine]
    if task.autocast is not None:
        if engine != "fused":
            raise CannotFuseError("its layers compute in float32 alone")
        kinds = (PlainLayer,)
    return FusedEvaluator(network, plane, task, batch, kinds, lanes_of(task.device))


class ReplayedEvaluator(EagerEvaluator):
    """The forward pass of a live network, replayed as a CUDA graph over its weights, which a move sets in place."""

    def __init__(self, live: Resident, plane: Plane, task: Task, batch: int, lanes: Sequence[Lane]) -> None:
        """Take a network whose weights stay where they are in memory; otherwise as `EagerEvaluator`.

        Inputs of several tensors and networks that take gradients are not replayed.
        """
        super().__init__(live, plane, task, batch)
        self._asked = batch
        self._replay: Replay | None = None
        with torch.inference_mode():
            sample = task.inputs(max(task.splits, key=self.count), slice(0, batch))
            if isinstance(sample, Tensor) and task.gradients == "inference":
                self._replay = Replay(partial(task.forward, live), lanes, sample)

    def _evaluate(self, split: str, examples: Examples, batch: int) -> PerExample:
        if batch < self._asked:
            self._replay = None  # it was recorded for batches that do not fit, and its memory is needed
        lanes: Lanes = self._replay or ONE_LANE
        return self._task.evaluate(self._replay or self._live, split, examples, batch, lanes)

    @property
    def description(self) -> str:
        """Say how points are evaluated, and whether that is replayed."""
        return f"{super().description}{f', {self._replay.description}' if self._replay else ''}"


class FusedEvaluator:
    """Evaluates points of one plane with fused layers, and replays them on lanes where it is given any."""

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
        self._network, self._plane, self._task = network, plane, task
        self._plain: EagerEvaluator | None = None
        self._at: Point = plane.centre
        self._fused = fuse(network, plane, kinds, [self._inputs(next(iter(task.splits)), n) for n in SAMPLES])
        self._batch = Batch(batch)
        self._asked = batch
        self._replay: Replay | None = None
        if lanes:
            largest = max(task.splits, key=self.count)  # as many examples as most batches will have
            with torch.inference_mode():
                sample = self._inputs(largest, batch)
                self._replay = Replay(partial(task.forward, self._forward), lanes, sample)

    @property
    def centre(self) -> Point:
        """The point of theta*."""
        return self._plane.centre

    def per_example(self, point: Point, split: str, examples: Examples) -> PerExample:
        """Return the losses, and what other metrics say, of some of a split's examples at a point of the plane.

        Examples whose loss is not finite are evaluated again by the plain network, and its result counts. Folded
        weights and Winograd's sums exceed the largest float32 at other places than the plain network does: one may
        give NaN where the other gives inf.
        """
        with torch.inference_mode():
            self._fused.plane.move(*self._plane.reached(point))
        self._at = point
        found = self._batch.attempt(lambda batch: self._evaluate(split, examples, batch))
        wild = ~np.isfinite(found.losses)
        return self._tamed(found, wild, point, split, examples) if wild.any() else found

    def _tamed(
        self, found: PerExample, wild: NDArray[np.bool_], point: Point, split: str, examples: Examples
    ) -> PerExample:
        """Return the results, with the wild (not finite) ones replaced by the plain network's, in their batches."""
        losses, others, start = found.losses.copy(), {name: one.copy() for name, one in found.others.items()}, 0
        for part in parts(examples, self.count(split), self._asked):
            stop = start + (part.stop - part.start if isinstance(part, slice) else len(part))
            which = wild[start:stop]
            if which.any():
                plain = self._eager().per_example(point, split, part)
                losses[start:stop][which] = plain.losses[which]
                for name, values in others.items():
                    values[start:stop][which] = plain.others[name][which]
            start = stop
        return PerExample(losses, others)

    def _eager(self) -> EagerEvaluator:
        """Return the plain network's evaluator, made when it is first wanted."""
        if self._plain is None:
            self._plain = EagerEvaluator(self._network, self._plane, self._task, self._asked)
        return self._plain

    def _forward(self, inputs: Tensor) -> object:
        """Return the outputs of a batch: the plain network's where the forward pass takes another branch."""
        try:
            return self._fused.forward(inputs)
        except OtherBranchError:
            return self._eager().network_at(self._at)(inputs)

    def count(self, split: str) -> int:
        """Return the number of examples of a split."""
        return len(self._task.splits[split])

    @property
    def nbytes(self) -> int:
        """Memory of the flat buffers, in bytes; Winograd's weights take four times their share of the network."""
        return self._fused.plane.nbytes

    @property
    def batch(self) -> int:
        """Return the number of examples at a time."""
        return self._batch.examples

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
        """Return nothing: fused layers hold no state that could be wrong at one point."""
        return ""

    def _evaluate(self, split: str, examples: Examples, batch: int) -> PerExample:
        if batch < self._asked:
            self._replay = None  # it was recorded for batches that do not fit, and its memory is needed
        network: Network = self._replay or self._forward
        lanes: Lanes = self._replay or ONE_LANE
        return self._task.evaluate(network, split, examples, batch, lanes)

    def _inputs(self, split: str, count: int) -> Tensor:
        """Return the first inputs of a split.

        Raises:
            CannotFuseError: they are not one tensor.
        """
        inputs = self._task.inputs(split, slice(0, count))
        if not isinstance(inputs, Tensor):
            raise CannotFuseError(f"its inputs are several tensors ({', '.join(inputs)})")
        return inputs
