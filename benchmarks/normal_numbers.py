"""How normal the numbers of random directions are, and what they cost beside reading them from memory.

    python benchmarks/normal_numbers.py [--count 100000000] [--skip statistics | --skip speed]

Statistics are in standard deviations of what independent normal numbers would give. Times are CPU time a number, the
least of several rounds that take turns, on arrays far larger than the caches.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from landscape_mpi.plane import rebuild
from landscape_mpi.plane.counter import LEVELS, by_kernel, by_numpy, library, standard_normal
from landscape_mpi.plane.normalise import drawn_norms, row_norms
from landscape_mpi.plane.rebuild import Drawn, Rows

Numbers = NDArray[np.float32]
CHUNK = 1 << 20
UNIT = 2.0**21
"""Numbers are multiples of 1 / UNIT."""
MOMENTS = ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96))
"""Power, its mean and its variance."""
BOUNDS = (4.0, 4.5, 5.0, 5.5)
LAGS = (1, 2, 3, 9, 64, 576, 4096, 32768, 65536)
"""Distances within a tensor: neighbours, and the same place in the next row or filter."""
SIZE = 1 << 26
"""Numbers of the arrays that times are taken on: 268 MB each."""
PIECE = 1 << 16
"""Numbers that are drawn at a time into one buffer."""
WIDTH = 4096
"""Numbers in a row."""
KEYS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


class Stream(NamedTuple):
    """What a direction's numbers for a tensor depend on, beside the index."""

    seed: int = 0
    axis: int = 0
    name: str = "conv1.weight"


STREAMS = (
    Stream(),
    *(Stream(axis=axis) for axis in (1, 2)),
    *(Stream(seed=seed) for seed in (1, 2, 2**62)),
    *(Stream(name=name) for name in ("conv2.weight", "layer1.0.conv1.weight")),
)
"""Two of these differ in the axis, the seed or the name of a tensor of the same shape, or in two of them."""
PAIRS = [*combinations(STREAMS, 2)]


def statistics(count: int) -> Iterator[str]:
    """Yield what 1e8 or another number of numbers show, line by line."""
    # one bin for each number that there can be, from -9 to 9
    bins = np.zeros(18 * int(UNIT) + 1, np.int64)
    for start in range(0, count, CHUNK):
        numbers = standard_normal(*Stream(), start, min(start + CHUNK, count)).astype(np.float64)
        np.add.at(bins, ((numbers + 9) * UNIT).astype(np.int64), 1)
    values = np.arange(bins.size) / UNIT - 9
    yield f"{count:,} numbers, in standard deviations of what normal numbers would give:"
    for power, mean, variance in MOMENTS:
        found = float((bins * values**power).sum()) / count
        yield f"  mean of z^{power:<22} {(found - mean) / math.sqrt(variance / count):+6.2f}"
    exact = torch.special.ndtr(torch.from_numpy(values + 0.5 / UNIT)).numpy()
    distance = float(np.abs(bins.cumsum() / count - exact).max()) * math.sqrt(count)
    yield f"  Kolmogorov-Smirnov, sqrt(n) D   {distance:6.2f}  (over 1.63 once in a hundred)"
    for bound in BOUNDS:
        expected = 2 * NormalDist().cdf(-bound) * count
        found = int(bins[np.abs(values) > bound].sum())
        yield f"  |z| > {bound}: {found:7,} of {expected:9,.1f}      {(found - expected) / math.sqrt(expected):+6.2f}"
    rows = [(f"lag {lag}", correlation(Stream(), Stream(), lag, count)) for lag in LAGS]
    yield from _worst("neighbours and rows", rows)
    pairs = [(f"{'/'.join(map(str, a))} and {'/'.join(map(str, b))}", correlation(a, b, 0, count)) for a, b in PAIRS]
    yield from _worst("axes, seeds, tensors", pairs)


def correlation(one: Stream, other: Stream, lag: int, count: int) -> tuple[float, float]:
    """Return the correlation of two streams' numbers and that of their squares, in standard deviations."""
    sums = np.zeros(2)
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        a = standard_normal(*one, start, stop).astype(np.float64)
        b = standard_normal(*other, start + lag, stop + lag).astype(np.float64)
        sums += np.dot(a, b), np.dot(a * a - 1, b * b - 1) / 2
    first, second = sums / math.sqrt(count)
    return float(first), float(second)


def _worst(what: str, found: list[tuple[str, tuple[float, float]]]) -> Iterator[str]:
    """Yield the largest of some correlations, and how many there were."""
    for index, kind in enumerate(("numbers", "squares")):
        name, values = max(found, key=lambda item: abs(item[1][index]))
        yield f"  {what}, {kind}: {len(found)} correlations, the largest {values[index]:+.2f} ({name})"


def speed(rounds: int) -> Iterator[str]:
    """Yield the times a number, and the ratios to reading numbers from memory."""
    torch.set_num_threads(1)
    theta, out, d, e = (torch.full((SIZE,), 0.5) for _ in range(4))
    scales = Rows(torch.full((SIZE // WIDTH,), 0.25), WIDTH)
    drawn = [(0.25, Drawn(0, axis, "weight", scales)) for axis in (0, 1)]
    stored = [(0.25, d), (0.5, e)]
    levels = range(library().landscape_normal_level() + 1 if library() else 0)
    rows: dict[str, Callable[[], object]] = {"read: sum": theta.sum, "draw: numpy": partial(_draw, by_numpy)}
    for level in levels:
        rows[f"draw: {LEVELS[level]}"] = partial(_draw, partial(by_kernel, level=level))
    for count, what in ((1, "theta + alpha d"), (2, "theta + alpha d + beta e")):
        rows[f"{what}: stored, {count + 1} passes"] = partial(_passes, out, theta, stored[:count])
        for level in levels:
            point = partial(rebuild.by_kernel, out, theta, drawn[:count], 0, level)
            rows[f"{what}: drawn, {LEVELS[level]}"] = point
    rows["norms of rows of theta"] = partial(row_norms, theta.view(-1, WIDTH))
    rows["norms of rows that are drawn"] = partial(drawn_norms, KEYS, SIZE // WIDTH, WIDTH)
    found = dict.fromkeys(rows, math.inf)
    for _ in range(rounds):
        for name, work in rows.items():
            began = time.process_time()
            work()
            found[name] = min(found[name], (time.process_time() - began) / SIZE * 1e9)
    yield f"{'':60} ns a number  times reading"
    for name, nanoseconds in found.items():
        yield f"{name:60} {nanoseconds:11.2f} {nanoseconds / found['read: sum']:14.1f}"


def _draw(way: Callable[[Numbers, int, tuple[int, int]], None]) -> None:
    """Draw numbers into a buffer that stays in the cache."""
    piece = np.empty(PIECE, np.float32)
    for start in range(0, SIZE, PIECE):
        way(piece, start, KEYS)


def _passes(out: torch.Tensor, theta: torch.Tensor, steps: list[tuple[float, torch.Tensor]]) -> None:
    """Compute theta + alpha d + ... with directions in memory: a pass for theta, and one for each of them."""
    out.copy_(theta)
    for coordinate, direction in steps:
        out.add_(direction, alpha=coordinate)


def main() -> int:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", choices=("statistics", "speed"))
    options = parser.parse_args()
    parts = {"statistics": partial(statistics, options.count), "speed": partial(speed, options.rounds)}
    for name, part in parts.items():
        for line in part() if name != options.skip else ():
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
