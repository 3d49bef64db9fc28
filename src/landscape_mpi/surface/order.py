"""Orders the points of a grid from coarse to fine, so that an unfinished surface already draws."""

from itertools import product

import numpy as np
from numpy.typing import NDArray


def coarse_to_fine(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return every grid index once: the corners, then the middles, then the middles between those, and so on.

    After any share of the work the points done are spread over the whole grid, so an unfinished surface already
    draws. Inside a level the order is shuffled by a fixed seed.
    """
    levels = [axis_levels(points) for points in shape]
    indices = list(product(*(range(points) for points in shape)))
    shuffle = np.random.default_rng(0).permutation(len(indices))
    keys = [max(level[i] for level, i in zip(levels, index, strict=True)) for index in indices]
    return [indices[k] for k in sorted(range(len(indices)), key=lambda k: (keys[k], shuffle[k]))]


def axis_levels(points: int) -> NDArray[np.int64]:
    """Return for each index of an axis the level of halving at which it first appears; the ends and middle are 0."""
    levels = np.full(points, -1)
    level, pieces = 0, 2
    while (levels < 0).any():
        marks = np.rint(np.linspace(0, points - 1, pieces + 1)).astype(int)
        levels[marks[levels[marks] < 0]] = level
        level, pieces = level + 1, 2 * pieces
    return levels
