"""Draws standard normal numbers, each a pure function of (seed, axis, name of the tensor, flat index).

No number depends on the one before it, so any part of a tensor can be drawn alone, by any rank and in any order. All
arithmetic is on integers up to one exact conversion to float32: every processor gives the same bits. A compiled kernel
draws them; `by_numpy` is its reference, and draws where the package was installed without a C compiler.
"""

import ctypes
import hashlib
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.kernels import load_kernel

GENERATOR = "counter-1"
"""Recorded in a surface whose directions were drawn here; another way to draw needs another name."""
EXTENSION = "landscape_mpi.plane._normal"
LEVELS = ("any processor", "AVX2", "AVX-512")
"""The instruction sets that the kernel is compiled for."""

Words = NDArray[np.uint64]

_BLOCK = 1 << 15
"""Numbers that numpy draws at a time: what is between the steps stays in the cache."""
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
        axis: 0 for delta, 1 for eta, 2 for a third direction.
        name: of the tensor, in the network.
        start: flat index of the first number, in the whole contiguous tensor.
        stop: flat index after the last one.

    >>> standard_normal(0, 0, "conv1.weight", 0, 3)
    array([-0.04646873,  0.06069565,  1.0876455 ], dtype=float32)
    >>> standard_normal(0, 0, "conv1.weight", 1, 3)
    array([0.06069565, 1.0876455 ], dtype=float32)
    """
    digest = hashlib.sha256(f"{seed}/{axis}/{name}".encode()).digest()
    keys = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
    numbers = np.empty(stop - start, np.float32)
    if kernel := library():
        by_kernel(numbers, start, keys, kernel.landscape_normal_level())
    else:
        by_numpy(numbers, start, keys)
    return numbers


@cache
def library() -> Any:
    """Return the compiled kernel; None where the package was installed without a C compiler."""
    found = load_kernel(EXTENSION)
    if found is None:
        return None
    found.landscape_normal.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint64, ctypes.c_long, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p),
        ctypes.c_int,
    ]
    found.landscape_normal.restype = None
    return found


def by_kernel(numbers: NDArray[np.float32], start: int, keys: tuple[int, int], level: int) -> None:
    """Fill a contiguous array with the numbers from `start` on, by the instruction set `LEVELS[level]`."""
    library().landscape_normal(numbers.ctypes.data, start, numbers.size, *keys, _packed().ctypes.data, level)


def by_numpy(numbers: NDArray[np.float32], start: int, keys: tuple[int, int]) -> None:
    """Fill an array with the numbers from `start` on; the counter is hashed in two rounds, each with a key."""
    for done in range(0, numbers.size, _BLOCK):
        block = numbers[done : done + _BLOCK]
        words = np.arange(start + done, start + done + block.size, dtype=np.uint64)
        words *= _INCREMENT
        words += np.uint64(keys[0])
        _mix(words)
        words ^= np.uint64(keys[1])
        _mix(words)
        block[:] = _normal(words)


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


@cache
def _packed() -> Words:
    """Return the table as the kernel reads it, a quantile and its drop in the halves of a word."""
    quantiles, drops = _table()
    return quantiles.astype(np.uint64) | drops.astype(np.uint64) << np.uint64(32)


def quantiles() -> NDArray[np.float64]:
    """Return z 2^20 with P(Z > z) = p for p = 2^(k - 53) (1 + j / 128), j from 0 to 127, k from 0 to 51, then 1/2."""
    tail = NormalDist()
    tails = [2.0 ** (k - 53) * (1 + j / _STEPS) for k in range(_UNIFORM_BITS) for j in range(_STEPS)]
    return np.array([-tail.inv_cdf(p) * 2.0**_SCALE_BITS for p in [*tails, 0.5]])
