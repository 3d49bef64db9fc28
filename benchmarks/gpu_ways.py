"""Ceilings of a device, and the ways to evaluate a network on it in a precision; checks and prints nothing."""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from landscape_mpi.assemble import allow_tf32
from landscape_mpi.data import DEFAULT_NORMALISATION, Split
from landscape_mpi.engines import FusedEvaluator
from landscape_mpi.engines.cuda_graphs import CudaLane, Lane
from landscape_mpi.engines.layers import DirectLayer, Layer, PlainLayer
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point, Task, build_loss
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.networks import build_network
from landscape_mpi.plane import Plane, RandomDirections
from landscape_mpi.sweeping.precision import PRECISIONS

LANES = (1, 2, 4)
NORMALISATION = DEFAULT_NORMALISATION["cifar10"]
Way = Callable[[Point], PerExample]
"""Evaluates all examples at a point."""


@dataclass(frozen=True)
class Scale:
    """How much is measured, and where."""

    device: torch.device
    images: int
    batches: tuple[int, ...]
    batch: int
    rounds: int
    matmul: int
    copied: int
    exact: int
    """Examples that are evaluated in float64 as well."""


@dataclass(frozen=True)
class Subject:
    """A network of the zoo with seeded weights on a plane, and random images on the device."""

    network: nn.Module
    plane: Plane
    split: Split
    scale: Scale

    @staticmethod
    def of(name: str, scale: Scale) -> "Subject":
        """Return the network with batch norm settled on its images, so that its signal neither dies nor grows."""
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        network = build_network(name, {}, Path()).eval()
        pixels = torch.randint(0, 256, (scale.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        with torch.no_grad():
            network.train()(NORMALISATION.apply(pixels[:128]))
        theta = {key: tensor.detach().clone() for key, tensor in network.named_parameters()}
        draw = RandomDirections(0, "filter", "biasbn").draw
        targets = torch.arange(scale.images) % 10
        split = Split("train", pixels.to(scale.device), targets.to(scale.device))
        return Subject(network.eval().to(scale.device), Plane(theta, (draw(theta, 0), draw(theta, 1))), split, scale)

    def task(self, dtype: str, images: int) -> Task:
        """Return the evaluation of the first examples in a precision."""
        precision = PRECISIONS[dtype]
        few = Split("train", self.split.inputs[:images], self.split.targets[:images])
        loss = build_loss("cross_entropy", Path())
        return Task({"train": few}, NORMALISATION, loss, precision.dtype, self.scale.device, precision.autocast)

    @property
    def flops(self) -> int:
        """Floating-point operations of an example."""
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            self.network(torch.zeros(2, 3, 32, 32, device=self.scale.device))
        return counter.get_total_flops() // 2

    def ways(self, dtype: str, batch: int) -> "dict[str, Callable[[], Way]]":
        """Return how to build each way to evaluate the network in a precision."""
        task = self.task(dtype, self.scale.images)
        layer: type[Layer] = PlainLayer if task.autocast else DirectLayer

        def fused(lanes: int, *kinds: type[Layer]) -> Callable[[], Way]:
            return lambda: whole(
                FusedEvaluator(self.network, self.plane, task, batch, kinds, lanes_on(self.scale.device, lanes))
            )

        return {
            "as it is, NCHW": lambda: lambda _: task.evaluate(self.network, "train", slice(None), batch),
            "eager": lambda: whole(EagerEvaluator(self.network, self.plane, task, batch)),
            "fused": fused(0, layer),
            **{f"fused, graph x {lanes}": fused(lanes, layer) for lanes in LANES},
        }

    def exact(self) -> Way:
        """Return the evaluation of a few examples in float64."""
        network = copy.deepcopy(self.network).double()
        return whole(EagerEvaluator(network, self.plane, self.task("float64", self.scale.exact), 64))


def whole(evaluator: Evaluator, split: str = "train") -> Way:
    """Return the evaluation of all examples of a split."""
    return lambda point: evaluator.per_example(point, split, slice(None))


class InlineLane:
    """A lane of a dry run: what a GPU would do at its leisure is done at once."""

    def follow(self) -> None:
        """Return: there is nothing to wait for."""

    lead = follow

    def used(self) -> AbstractContextManager[object]:
        """Return a context that changes nothing."""
        return nullcontext()

    def record(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Return `run` with its result at a fixed place."""
        outputs = run().clone()

        def replay() -> None:
            outputs.copy_(run())

        return replay, outputs


def lanes_on(device: torch.device, count: int) -> list[Lane]:
    """Return lanes of a device; stand-ins on a CPU."""
    return [CudaLane(device) if device.type == "cuda" else InlineLane() for _ in range(count)]


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Compute in a precision for a while, as far as it is a setting of the whole process."""
    allow_tf32(PRECISIONS[dtype].tf32)
    try:
        yield
    finally:
        allow_tf32(False)


def wait(device: torch.device) -> None:
    """Wait until a device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, rounds: int, work: Callable[[], object]) -> float:
    """Return the median wall seconds of some work, after one round that does not count."""
    times = []
    for _ in range(rounds + 1):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - started)
    return median(times[1:])


def ceilings(scale: Scale) -> dict[str, float]:
    """Return GB/s of a copy (read and written), and TFLOP/s of a large matrix product in each precision."""
    device, n, repeats = scale.device, scale.matmul, 10
    block = torch.empty(scale.copied, dtype=torch.uint8, device=device)
    into = torch.empty_like(block)
    found = {"copy": 2 * scale.copied / seconds(device, scale.rounds, lambda: into.copy_(block)) / 1e9}
    for dtype in dtypes(device):
        a = torch.randn(n, n, device=device, dtype=PRECISIONS[dtype].autocast or torch.float32)
        with precision(dtype):
            took = seconds(device, scale.rounds, lambda a=a: [a @ a for _ in range(repeats)])  # type: ignore[misc]
        found[dtype] = repeats * 2 * n**3 / took / 1e12
    return found


def dtypes(device: torch.device) -> tuple[str, ...]:
    """Return the precisions that a device is measured in."""
    return ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")
