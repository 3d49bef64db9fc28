"""Draws the numbers of plane/counter.py by the operations of torch: the same bits, on any device.

Elementwise operations on int32, whose products wrap around, and look-ups in a table of 32 rows: without a loop or a
branch on data, so that a compiler can make one pass of it.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from landscape_mpi.plane.counter import BLOCK, FACTORS, QUANTILES, SCALE_BITS, Keys, block_keys

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""The dtypes that the kernels read, and how they call them."""

_WEYL, *_FACTORS = (int(np.uint32(factor).view(np.int32)) for factor in FACTORS)


def draw(keys: Keys, start: int, stop: int, device: torch.device) -> Tensor:
    """Return the numbers `start` to `stop - 1` of a stream, float32 [stop - start]: `counter.standard_normal`'s."""
    first = start // BLOCK
    blocks = (max(stop, start + 1) - 1) // BLOCK - first + 1
    one, other = (torch.from_numpy(half.view(np.int32)).to(device)[:, None] for half in block_keys(keys, first, blocks))
    # rows are whole blocks, so that no index is divided: what is before and after is drawn too, but for a single block
    skipped = start - first * BLOCK
    begin, end = (skipped, stop - first * BLOCK) if blocks == 1 else (0, BLOCK)
    words = hashed(torch.arange(begin, end, dtype=torch.int32, device=device), one, other)
    some = words.view(-1)[skipped - begin :][: stop - start]
    return normal_of(some, _table(device))


@cache
def _table(device: torch.device) -> Tensor:
    """Return the table of QUANTILES on a device, int32 [5, 32]."""
    with torch.inference_mode(False):
        return torch.from_numpy(QUANTILES.T.copy()).to(device)


def hashed(inner: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return 32 uniform bits for each place in a block and the block's two keys, int32 of shapes that fit together."""
    words = inner * _WEYL + one
    words = (words ^ _shifted(words, 16)) * _FACTORS[0]
    words = (words ^ _shifted(words, 15) ^ other) * _FACTORS[1]
    return (words ^ _shifted(words, 16)) * _FACTORS[2]


def normal_of(words: Tensor, table: Tensor) -> Tensor:
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
