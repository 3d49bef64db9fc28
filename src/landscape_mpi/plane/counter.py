"""Standard normal numbers, each a pure function of (seed, axis, name of the tensor, flat index).

No number depends on the one before it, so any part of a tensor can be drawn alone, by any rank and in any order. All
arithmetic is on integers up to one exact conversion to float32: every processor gives the same bits.
"""

import hashlib
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

GENERATOR = "counter-1"
"""Recorded in a surface whose directions were drawn here; another way to draw needs another name."""

Words = NDArray[np.uint64]

_BLOCK = 1 << 15
"""Numbers drawn at a time: what is between the steps stays in the cache."""
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, odd
_FACTORS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # of the finaliser of MurmurHash3
_SHIFT = np.uint64(33)

_UNIFORM_BITS = 52  # an integer of as many bits is exact in float64, whose exponent then tells its magnitude
_STEPS = 128  # of the table, for every power of two
_STEP_BITS, _FRACTION_BITS = 7, 32
_SCALE_BITS = 20  # |z| < 9, so that z 2^20 is below 2^24 and exact in float32


def standard_normal(seed: int, axis: int, name: str, start: int, stop: int) -> NDArray[np.float32]:
    """Return the numbers `start` to `stop - 1` of a tensor's direction, float32 [stop - start].

    A counter is hashed to 64 bits: one is the sign, 52 are the probability p of the tail in (0, 1/2], and |z| is where
    the normal distribution has that tail. The quantile is read from a table, linear between its entries: 128 for every
    power of two of p, which keeps it within 5e-6. The numbers are multiples of 2^-20, and |z| is at most 8.21.

    Args:
        seed: of the direction, any whole number.
        axis: 0 for delta, 1 for eta.
        name: of the tensor, in the network.
        start: flat index of the first number, in the whole contiguous tensor.
        stop: flat index after the last one.

    >>> standard_normal(0, 0, "conv1.weight", 0, 3)
    array([-0.04646873,  0.06069565,  1.0876455 ], dtype=float32)
    >>> standard_normal(0, 0, "conv1.weight", 1, 3)
    array([0.06069565, 1.0876455 ], dtype=float32)
    """
    numbers = np.empty(stop - start, np.float32)
    keys = _keys(seed, axis, name)
    for first in range(start, stop, _BLOCK):
        last = min(stop, first + _BLOCK)
        numbers[first - start : last - start] = _normal(_hash(np.arange(first, last, dtype=np.uint64), *keys))
    return numbers


def _keys(seed: int, axis: int, name: str) -> tuple[np.uint64, np.uint64]:
    digest = hashlib.sha256(f"{seed}/{axis}/{name}".encode()).digest()
    first, second = np.frombuffer(digest[:16], "<u8")
    return np.uint64(first), np.uint64(second)


def _hash(counters: Words, first: np.uint64, second: np.uint64) -> Words:
    """Return 64 bits per counter: two rounds of a mixing function, each with a key of its own."""
    counters *= _INCREMENT
    counters += first
    _mix(counters)
    counters ^= second
    _mix(counters)
    return counters


def _mix(words: Words) -> None:
    for factor in _FACTORS:
        words ^= words >> _SHIFT
        words *= factor
    words ^= words >> _SHIFT


def _normal(words: Words) -> NDArray[np.float32]:
    """Return a normal number per word of 64 uniform bits."""
    uniform = (words >> np.uint64(64 - _UNIFORM_BITS)) | np.uint64(1)
    bits = uniform.astype(np.float64).view(np.int64)  # exact: sign 0, exponent, and 52 bits after the leading one
    entry = (bits >> (_UNIFORM_BITS - _STEP_BITS)) - 1023 * _STEPS  # 1023: the bias of float64's exponent
    fraction = (bits >> (_UNIFORM_BITS - _STEP_BITS - _FRACTION_BITS)) & ((1 << _FRACTION_BITS) - 1)
    quantiles, drops = _table()
    scaled = quantiles[entry] - ((drops[entry] * fraction) >> _FRACTION_BITS)
    sign = 1 - 2 * (words & np.uint64(1)).astype(np.int64)
    numbers: NDArray[np.float32] = (sign * scaled).astype(np.float32)
    return numbers * np.float32(2.0**-_SCALE_BITS)


@cache
def _table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the quantile of the upper tail in units of 2^-20 at every entry, and by how much the next one is less.

    Entries are rounded to whole numbers, and none lies near the boundary between two (a test has the margin): every
    library of mathematical functions gives the same table.
    """
    rounded = np.rint(quantiles()).astype(np.int64)
    return rounded[:-1], rounded[:-1] - rounded[1:]


def quantiles() -> NDArray[np.float64]:
    """Return z 2^20 with P(Z > z) = p for p = 2^(k - 53) (1 + j / 128), j from 0 to 127, k from 0 to 51, then 1/2."""
    tail = NormalDist()
    tails = [2.0 ** (k - 53) * (1 + j / _STEPS) for k in range(_UNIFORM_BITS) for j in range(_STEPS)]
    return np.array([-tail.inv_cdf(p) * 2.0**_SCALE_BITS for p in [*tails, 0.5]])
