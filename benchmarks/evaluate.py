"""CPU time of an example at a point: what users have today, plain torch, and our engines, interleaved in one run.

    python benchmarks/evaluate.py [--networks resnet20 resnet56] [--checkpoint resnet20=FILE] [--json FILE]

One thread. Every round evaluates one point in every way; a ratio is taken within its round, and the median over the
rounds is shown. What users have today runs in a process of its own, with the C library's memory as it is. The ceiling
is the best direct convolution of the network's shapes, measured in the same run: below its floor an engine can only get
by multiplying less. Deviations are those of the mean loss from float64 at 20 points from the centre to the corner.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from references import POINTS, reference_losses
from subjects import ENGINES, PLAIN, Recipe, Subject, Way, ways
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.assemble import keep_memory
from landscape_mpi.data import Split
from landscape_mpi.evaluate import Point

FEW = 64
"""Examples of the comparison with float64, which is slow."""


@dataclass(frozen=True)
class Row:
    """One way to evaluate: milliseconds per example, how many times faster than others, deviation from float64."""

    way: str
    cpu_ms: float
    cpu_ms_range: tuple[float, float]
    wall_ms: float
    over_baseline: float
    over_preloaded: float
    of_floor: float
    deviation: float


class Worker:
    """A process that evaluates points in some ways, on one thread."""

    held: "dict[str, Way]"

    def __init__(self, recipe: Recipe, names: Sequence[str]) -> None:
        """Start it; ours keep the memory that batches free, as a sweep does."""
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), self._prepare, (recipe, names))
        self.names = names

    def time(self, name: str, point: Point) -> tuple[float, float, float]:
        """Return CPU seconds, wall seconds and the loss of one way at one point."""
        return self._pool.submit(self._timed, name, point).result()

    def stop(self) -> None:
        """End the process."""
        self._pool.shutdown()

    @staticmethod
    def _prepare(recipe: Recipe, names: Sequence[str]) -> None:
        torch.set_num_threads(1)
        if names != PLAIN:
            keep_memory()
        Worker.held = ways(recipe.subject(), names)

    @staticmethod
    def _timed(name: str, point: Point) -> tuple[float, float, float]:
        cpu, wall = cpu_seconds(), time.perf_counter()
        loss = Worker.held[name](point)
        return cpu_seconds() - cpu, time.perf_counter() - wall, loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write JSON where asked."""
    options = _options(arguments)
    torch.set_num_threads(1)
    checkpoints = dict(item.split("=", 1) for item in options.checkpoint)
    report = {}
    for name in options.networks:
        recipe = Recipe(name, checkpoints.get(name), options.shortcut, options.images)
        report[name] = measure_network(recipe, options.rounds)
        sys.stdout.write("\n".join(table(name, report[name])) + "\n\n")
        sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def measure_network(recipe: Recipe, rounds: int) -> dict[str, Any]:
    """Return the rows of all ways, the ceiling of direct convolution, and the floor that follows from it."""
    subject = recipe.subject()
    flops, ceiling = convolution_flops(subject.network), ceiling_gflops()
    times = interleaved([Worker(recipe, PLAIN), Worker(recipe, ENGINES)], rounds, recipe.images)
    deviations = deviation_of_all(replace(subject, split=_first(subject.split, FEW)))
    floor = flops / ceiling / 1e6
    rows = [asdict(_row(name, times, floor, deviations[name])) for name in times]
    return {
        "mflop": flops / 1e6,
        "ceiling_gflops": ceiling,
        "floor_ms": floor,
        "images": recipe.images,
        "rounds": rounds,
        "rows": rows,
    }


Times = dict[str, list[tuple[float, float]]]
"""CPU and wall milliseconds per example of each round, by way."""


def interleaved(workers: Sequence[Worker], rounds: int, images: int) -> Times:
    """Time every way once per round; the first round warms up and does not count."""
    times: Times = {name: [] for worker in workers for name in worker.names}
    for number in range(rounds + 1):
        for worker in workers:
            for name in worker.names:
                cpu, wall, _ = worker.time(name, (0.02 * number, 0.01))
                if number:
                    times[name].append((cpu / images * 1e3, wall / images * 1e3))
    for worker in workers:
        worker.stop()
    return times


def _row(name: str, times: Times, floor: float, deviation: float) -> Row:
    cpu = {way: [pair[0] for pair in pairs] for way, pairs in times.items()}
    return Row(
        way=name,
        cpu_ms=median(cpu[name]),
        cpu_ms_range=(min(cpu[name]), max(cpu[name])),
        wall_ms=median(wall for _, wall in times[name]),
        over_baseline=ratio(cpu["baseline"], cpu[name]),
        over_preloaded=ratio(cpu["preloaded"], cpu[name]),
        of_floor=median(floor / one for one in cpu[name]),
        deviation=deviation,
    )


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median of the ratios within a round."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def convolution_flops(network: nn.Module) -> int:
    """Return the floating-point operations of the convolutions and linear layers for one example of 32 x 32."""
    total = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * module.weight[0].numel() * output[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    return total


def ceiling_gflops() -> float:
    """Return the best GFLOP/s of CPU time of a direct 3x3 convolution, channels last, of the ResNets' shapes."""
    best = 0.0
    for channels, size in ((16, 32), (32, 16), (64, 8)):
        x = torch.randn(64, channels, size, size).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            times = [seconds_of_twenty(x, weight) for _ in range(7)]
        best = max(best, 20 * 2 * 9 * channels * x.numel() / median(times) / 1e9)
    return best


def seconds_of_twenty(x: Tensor, weight: Tensor) -> float:
    """Return the CPU seconds of twenty convolutions."""
    started = cpu_seconds()
    for _ in range(20):
        functional.conv2d(x, weight, padding=1)
    return cpu_seconds() - started


def deviation_of_all(subject: Subject) -> dict[str, float]:
    """Return each way's largest relative deviation of the mean loss from float64, where that is above 1e-3."""
    exact = reference_losses(subject.network, subject.plane, subject.task(FEW, torch.float64))
    todo = ways(subject, PLAIN) | ways(subject, ENGINES)
    return {
        name: max(abs(way(point) / loss - 1) for point, loss in zip(POINTS, exact, strict=True) if loss > 1e-3)
        for name, way in todo.items()
    }


def _first(split: Split, images: int) -> Split:
    return Split(split.name, split.inputs[:images], split.targets[:images])


def table(name: str, found: dict[str, Any]) -> Iterator[str]:
    """Yield the figures of a network as lines of text."""
    yield (
        f"{name}: {found['mflop']:.1f} MFLOP per example; ceiling of direct convolution {found['ceiling_gflops']:.0f} "
        f"GFLOP/s, its floor {found['floor_ms']:.3f} ms; {found['images']} examples, 1 thread, {found['rounds']} rounds"
    )
    yield "                CPU ms           range  wall ms  baseline  preloaded   floor   deviation"
    for row in found["rows"]:
        low, high = row["cpu_ms_range"]
        yield (
            f"{row['way']:12}{row['cpu_ms']:9.3f}{f'{low:.3f}-{high:.3f}':>16}{row['wall_ms']:9.3f}"
            f"{row['over_baseline']:9.2f}x{row['over_preloaded']:10.2f}x{row['of_floor']:8.0%}{row['deviation']:12.1e}"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CPU time of an example at a point, by every engine.")
    parser.add_argument("--networks", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--checkpoint", action="append", default=[], metavar="NETWORK=FILE")
    parser.add_argument("--shortcut", default="projection", help="of the networks: projection, pad or none")
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
