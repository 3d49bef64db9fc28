"""Norms of the rows of a tensor, and of numbers that are drawn, added in float64 in an order that never changes.

Square number j of a row is added to sum j % 16, one after the other, and the 16 sums are added in halves: a row's norm
does not depend on the instruction set, on how many rows there are or on how long the pieces are that are worked on.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.plane import counter, counter_torch

LANES = 16
"""Sums of a row."""
_PIECE = 1 << 15
"""Numbers at a time, a multiple of LANES."""

Doubles = NDArray[np.float64]
_Part = Callable[[int, int], Doubles]


def row_norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row, float64 [n] on the CPU for [n, m] of any real dtype and device."""
    kernel = counter.library()
    if kernel and rows.device.type == "cpu" and rows.dtype in counter_torch.KINDS and rows.is_contiguous():
        return by_kernel(rows.detach(), (0, 0), rows.shape[0], rows.shape[1], kernel.landscape_normal_level())
    return by_numpy(rows.detach(), (0, 0), rows.shape[0], rows.shape[1])


def drawn_norms(keys: counter.Keys, rows: int, width: int) -> Tensor:
    """Return the norm of each row of the first `rows` rows of a stream's numbers, float64 [rows]."""
    kernel = counter.library()
    if kernel:
        return by_kernel(None, keys, rows, width, kernel.landscape_normal_level())
    return by_numpy(None, keys, rows, width)


def by_kernel(array: Tensor | None, keys: counter.Keys, rows: int, width: int, level: int) -> Tensor:
    """Return norms of an array's rows, or where it is None of a stream's, by the instruction set `LEVELS[level]`."""
    norms = torch.zeros(rows, dtype=torch.float64)
    address, kind = (None, 0) if array is None else (array.data_ptr(), counter_torch.KINDS[array.dtype])
    counter.library().landscape_norms(
        norms.data_ptr(), address, kind, *keys, counter.table_address(), rows, width, level
    )
    return norms


def by_numpy(array: Tensor | None, keys: counter.Keys, rows: int, width: int) -> Tensor:
    """Return the same norms by numpy."""
    flat = None if array is None else array.reshape(-1)

    def part(start: int, stop: int) -> Doubles:
        numbers = counter.draw(keys, start, stop) if flat is None else flat[start:stop].to("cpu", torch.float64).numpy()
        wide: Doubles = numbers.astype(np.float64)
        return wide

    return _norms(part, rows, width)


def _norms(part: _Part, rows: int, width: int) -> Tensor:
    """Return norms of rows whose flat numbers `part` gives, piece by piece."""
    norms = np.zeros(rows)
    if width <= _PIECE:
        some = _PIECE // max(width, LANES)
        for first in range(0, rows, some):
            last = min(first + some, rows)
            numbers = part(first * width, last * width).reshape(last - first, width)
            norms[first:last] = _joined(_added(np.zeros((last - first, LANES)), numbers))
        return torch.from_numpy(norms)
    for row in range(rows):
        sums = np.zeros((1, LANES))
        for start in range(row * width, (row + 1) * width, _PIECE):
            sums = _added(sums, part(start, min(start + _PIECE, (row + 1) * width))[None])
        norms[row] = _joined(sums)[0]
    return torch.from_numpy(norms)


def _added(sums: Doubles, numbers: Doubles) -> Doubles:
    """Return sums [n, LANES] after the squares of numbers [n, m] were added to them, one after the other."""
    n, m = numbers.shape
    squares = np.zeros((n, 1 + -(-m // LANES), LANES))
    squares[:, 0] = sums
    squares[:, 1:].reshape(n, -1)[:, :m] = numbers * numbers
    return np.add.accumulate(squares, axis=1)[:, -1]


def _joined(sums: Doubles) -> Doubles:
    """Return the norms of rows whose sums are [n, LANES]."""
    while (half := sums.shape[1] // 2) > 0:
        sums = sums[:, :half] + sums[:, half:]
    norms: Doubles = np.sqrt(sums[:, 0])
    return norms
