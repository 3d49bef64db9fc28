"""Draws standard normal numbers, each a pure function of (seed, axis, name of the tensor, flat index).

No number depends on the one before it, so any part of a tensor can be drawn alone, by any rank and in any order. All
arithmetic is on whole numbers of 32 bits up to one exact conversion to float32: every processor gives the same bits. A
compiled kernel draws them; `by_numpy` is its reference, and draws where the package was installed without a C compiler.
`by_torch` draws the same with the operations of torch, on any device.
"""

import ctypes
import hashlib
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GENERATOR = "counter-2"
"""Recorded in a surface whose directions were drawn here; another way to draw needs another name."""
EXTENSION = "landscape_mpi.plane._kernel"
LEVELS = ("any processor", "AVX2", "AVX-512", "AVX-512 with VBMI and VNNI")
"""The instruction sets that the kernel is compiled for."""

Keys = tuple[int, int]
"""Two keys of 64 bits, which stand for seed, axis and name."""
Words = NDArray[np.uint32]
Whole = NDArray[np.int32]

BLOCK = 1 << 16
"""Indices that share a pair of 32-bit keys."""
FACTORS = (0x9E3779B1, 0x7FEB352D, 0x846CA68B, 0xC2B2AE35)
"""Odd: 2^32 divided by the golden ratio, the two of C. Wellons's hash lowbias32, and one of MurmurHash3."""
SCALE_BITS = 21
"""Numbers are multiples of 2^-21: |z| < 8, so that z 2^21 is below 2^24 and exact in float32."""

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The dtypes that the kernels read, and the number of each in the kernels."""

_PIECE = 1 << 14
"""Numbers that numpy draws at a time: few enough that intermediate results stay in the cache."""
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, odd
_FACTORS_64 = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # of the finaliser of MurmurHash3
_SHIFT_64 = np.uint64(33)
_SIGN = np.uint32(1 << 31)

QUANTILES = np.array(
    [
        [13291661, 0, 0, 0, 0],
        [668236, -21595, 2261, -2020, 705],
        [1860485, -15210, 3127, -1524, 737],
        [2764072, -12229, 3004, -1379, 680],
        [3514699, -10448, 2789, -1273, 632],
        [4167938, -9242, 2588, -1186, 591],
        [4752623, -8361, 2415, -1113, 556],
        [5285877, -7683, 2268, -1050, 526],
        [5778808, -7141, 2142, -997, 500],
        [6239069, -6696, 2034, -950, 478],
        [6672216, -6323, 1939, -909, 458],
        [7082389, -6004, 1856, -872, 440],
        [7472800, -5728, 1782, -839, 424],
        [7845976, -5485, 1716, -810, 410],
        [8203965, -5270, 1656, -783, 397],
        [8548423, -5078, 1603, -759, 385],
        [8880761, -4905, 1553, -737, 374],
        [9202128, -4748, 1508, -717, 364],
        [9513521, -4605, 1467, -698, 355],
        [9815802, -4474, 1428, -680, 347],
        [10109692, -4353, 1392, -664, 340],
        [10395824, -4241, 1358, -649, 335],
        [10674736, -4136, 1326, -634, 330],
        [10946874, -4037, 1295, -620, 325],
        [11212568, -3942, 1264, -605, 320],
        [11471990, -3848, 1232, -588, 314],
        [11725052, -3751, 1195, -566, 307],
        [11971252, -3641, 1148, -535, 297],
        [12209259, -3503, 1083, -485, 284],
        [12436402, -3303, 1004, -532, 0],
        [12647853, -3548, 0, 0, 0],
        [12931940, 0, 0, 0, 0],
    ],
    np.int32,
)
"""For each number of leading zeros modulo 32, |z| 2^21 in the middle of the octave, and the coefficients of g to g^4.

They were computed by benchmarks/normal_table.py, and are constants because another library's logarithm may differ.
"""


def standard_normal(seed: int, axis: int, name: str, start: int, stop: int) -> NDArray[np.float32]:
    """Return the numbers `start` to `stop - 1` of a tensor's direction, float32 [stop - start].

    An index is hashed to 32 bits. One bit is the sign, and 31 bits are the probability p of the tail in (0, 1/2). The
    normal distribution has that tail at |z|. A polynomial of degree 4 for every power of two of p gives |z| within
    4e-5. The numbers are multiples of 2^-21, and |z| is at most 6.34.

    Args:
        seed: of the direction, any whole number.
        axis: 0 for delta, 1 for eta, 2 for a third direction.
        name: of the tensor, in the network.
        start: flat index of the first number, in the whole contiguous tensor.
        stop: flat index after the last one.

    >>> standard_normal(0, 0, "conv1.weight", 0, 3)
    array([-0.09957695,  1.6355586 , -0.16659212], dtype=float32)
    >>> standard_normal(0, 0, "conv1.weight", 1, 3)
    array([ 1.6355586 , -0.16659212], dtype=float32)
    """
    return draw(stream_keys(seed, axis, name), start, stop)


def draw(keys: Keys, start: int, stop: int) -> NDArray[np.float32]:
    """Return the numbers `start` to `stop - 1` of a stream, float32 [stop - start]."""
    numbers = np.empty(stop - start, np.float32)
    if kernel := library():
        by_kernel(numbers, start, keys, kernel.landscape_normal_level())
    else:
        by_numpy(numbers, start, keys)
    return numbers


@lru_cache(maxsize=1 << 14)
def stream_keys(seed: int, axis: int, name: str) -> Keys:
    """Return the keys of a tensor's direction."""
    digest = hashlib.sha256(f"{seed}/{axis}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def load_kernel(extension: str) -> ctypes.CDLL | None:
    """Return the library of an extension module, such as `landscape_mpi.plane._kernel`; None where it was not built."""
    spec = find_spec(extension)
    return None if spec is None or spec.origin is None else ctypes.CDLL(spec.origin)


@cache
def library() -> Any:
    """Return the compiled kernel; None where the package was installed without a C compiler."""
    found = load_kernel(EXTENSION)
    if found is None:
        return None
    address, keys = ctypes.c_void_p, (ctypes.c_uint64, ctypes.c_uint64)
    count, number = ctypes.c_long, ctypes.c_int
    found.landscape_normal.argtypes = [address, ctypes.c_uint64, count, *keys, address, number]
    steps = (address, number, address, number)
    found.landscape_rebuild.argtypes = [address, address, number, count, ctypes.c_uint64, *steps]
    found.landscape_norms.argtypes = [address, address, number, *keys, address, count, count, number]
    for function in (found.landscape_normal, found.landscape_rebuild, found.landscape_norms):
        function.restype = None
    return found


def by_kernel(numbers: NDArray[np.float32], start: int, keys: Keys, level: int) -> None:
    """Fill a contiguous array with the numbers from `start` on, by the instruction set `LEVELS[level]`."""
    library().landscape_normal(numbers.ctypes.data, start, numbers.size, *keys, table_address(), level)


def by_numpy(numbers: NDArray[np.float32], start: int, keys: Keys) -> None:
    """Fill an array with the numbers from `start` on."""
    for done in range(0, numbers.size, _PIECE):
        piece = numbers[done : done + _PIECE]
        first = start + done
        blocks = (first + piece.size - 1) // BLOCK - first // BLOCK + 1
        one, other = block_keys(keys, first // BLOCK, blocks)
        inner = np.arange(first % BLOCK, first % BLOCK + piece.size, dtype=np.uint32)
        block = inner >> np.uint32(16)
        piece[:] = normal_of(hashed(inner & np.uint32(BLOCK - 1), one[block], other[block]))


def block_keys(keys: Keys, first: int, count: int) -> tuple[Words, Words]:
    """Return the pair of 32-bit keys of each of `count` blocks from number `first` on, uint32 [count] both.

    The block number is hashed to 64 bits in two rounds, each with a key of the stream: the keys of two blocks, of one
    stream or of two, have nothing in common.
    """
    words = np.arange(first, first + count, dtype=np.uint64)
    words *= _INCREMENT
    words += np.uint64(keys[0])
    _mix(words)
    words ^= np.uint64(keys[1])
    _mix(words)
    return words.astype(np.uint32), (words >> np.uint64(32)).astype(np.uint32)


def _mix(words: NDArray[np.uint64]) -> None:
    for factor in _FACTORS_64:
        words ^= words >> _SHIFT_64
        words *= factor
    words ^= words >> _SHIFT_64


def hashed(inner: Words, one: Words, other: Words) -> Words:
    """Return 32 uniform bits for each place in a block and the block's two keys, all uint32 of one shape."""
    weyl, *factors = (np.uint32(factor) for factor in FACTORS)
    words = inner * weyl + one
    words ^= words >> np.uint32(16)
    words *= factors[0]
    words ^= (words >> np.uint32(15)) ^ other
    words *= factors[1]
    words ^= words >> np.uint32(16)
    words *= factors[2]
    return words


def normal_of(words: Words) -> NDArray[np.float32]:
    """Return a normal number for each word of 32 uniform bits: the highest is the sign, the others are the tail."""
    tail = (words & ~_SIGN).astype(np.uint64)
    exponent = tail.astype(np.float64).view(np.int64) >> 52  # of an exact conversion; 1023 is its bias
    leading = np.minimum(1023 + 31 - exponent, 32)  # zeros of the 32-bit word without its sign; 32 where it is 0
    fraction = (tail << leading.astype(np.uint64)) >> np.uint64(15) & np.uint64(0xFFFF)
    size = size_of(QUANTILES.T.take(leading & 31, 1), fraction.astype(np.int32))
    numbers = size.astype(np.float32) * np.float32(2.0**-SCALE_BITS)
    signed: NDArray[np.float32] = (numbers.view(np.uint32) ^ (words & _SIGN)).view(np.float32)
    return signed


def size_of(columns: Whole, fraction: Whole) -> Whole:
    """Return |z| 2^21 for columns of the table [5, n] and fractions of 16 bits [n]."""
    middle, *coefficients = columns
    terms = [c * power for c, power in zip(coefficients, powers(fraction - np.int32(1 << 15)), strict=True)]
    size: Whole = middle + ((terms[0] + terms[1] + terms[2] + terms[3]) >> 10)
    return size


def powers(g: Whole) -> tuple[Whole, Whole, Whole, Whole]:
    """Return g, g^2, g^3 and g^4 for g from -2^15 to 2^15 - 1, each product rounded down to a multiple of 2^16."""
    square = g * g >> 16
    return g, square, g * square >> 16, square * square >> 16


@cache
def table_address() -> int:
    """Return the memory address of the table that the kernel reads; the table stays there."""
    return packed_table().ctypes.data


@cache
def packed_table() -> Whole:
    """Return the table as the kernel reads it, int32 [3, 32]: |z| 2^21, and two pairs of 16-bit coefficients."""
    size, *coefficients = QUANTILES.T.astype(np.int64)
    pairs = [low & 0xFFFF | high << 16 for low, high in (coefficients[:2], coefficients[2:])]
    return np.ascontiguousarray([size, *pairs]).astype(np.int32)


def by_torch(keys: Keys, start: int, stop: int, device: torch.device) -> Tensor:
    """Return the numbers `start` to `stop - 1` of a stream, float32 [stop - start] on a device, bit for bit as `draw`.

    It uses elementwise operations on int32, whose products wrap around, and look-ups in a table of 32 rows. There is no
    loop and no branch on data, so that a compiler can make one pass of it.
    """
    first = start // BLOCK
    blocks = (max(stop, start + 1) - 1) // BLOCK - first + 1
    one, other = (torch.from_numpy(half.view(np.int32)).to(device)[:, None] for half in block_keys(keys, first, blocks))
    # rows are whole blocks, so that no index is divided; numbers before and after are drawn too, unless it is one block
    skipped = start - first * BLOCK
    begin, end = (skipped, stop - first * BLOCK) if blocks == 1 else (0, BLOCK)
    weyl, *factors = (int(np.uint32(factor).view(np.int32)) for factor in FACTORS)
    words = torch.arange(begin, end, dtype=torch.int32, device=device) * weyl + one
    words = (words ^ _shifted(words, 16)) * factors[0]
    words = (words ^ _shifted(words, 15) ^ other) * factors[1]
    words = (words ^ _shifted(words, 16)) * factors[2]
    return normal_by_torch(words.view(-1)[skipped - begin :][: stop - start], _table_on(device))


@cache
def _table_on(device: torch.device) -> Tensor:
    """Return the table of QUANTILES on a device, int32 [5, 32]."""
    with torch.inference_mode(False):
        return torch.from_numpy(QUANTILES.T.copy()).to(device)


def normal_by_torch(words: Tensor, table: Tensor) -> Tensor:
    """Return a normal number for each word of 32 uniform bits, int32; `table` is int32 [5, 32] on their device."""
    tail = words & 0x7FFFFFFF
    leading = torch.ones_like(tail)  # zeros of 32 bits, of which the sign is one
    aligned = tail << 1
    for step in (16, 8, 4, 2, 1):  # moves up by as many zeros as there are, at most 31
        empty = _shifted(aligned, 32 - step) == 0
        leading = leading + empty * step
        aligned = torch.where(empty, aligned << step, aligned)
    g = (_shifted(aligned, 15) & 0xFFFF) - (1 << 15)
    square = (g * g) >> 16
    middle, *coefficients = table[:, leading % 32]
    powers = (g, square, (g * square) >> 16, (square * square) >> 16)
    terms = [c * power for c, power in zip(coefficients, powers, strict=True)]
    size = middle + ((terms[0] + terms[1] + terms[2] + terms[3]) >> 10)
    numbers = size.float() * 2.0**-SCALE_BITS
    return torch.where(words < 0, -numbers, numbers)


def _shifted(words: Tensor, count: int) -> Tensor:
    """Return words shifted to the right with zeros from the left, as unsigned ones are."""
    return (words >> count) & ((1 << (32 - count)) - 1)
