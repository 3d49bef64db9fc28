"""Checkpoints as rows of a matrix that never stands in memory as a whole: theta_i - theta; knows no file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Row = Callable[[], Mapping[str, Tensor]]
"""Opens a checkpoint afresh: its parameters by name, views of a file where that is possible."""
BLOCK_BYTES = 1 << 27
"""How much of the matrix is held at a time, in float64."""


@dataclass(frozen=True)
class Matrix:
    """[theta_0 - theta; ...; theta_(n-1) - theta] over some of the parameters, in float64.

    Attributes:
        rows: the checkpoints, n of them.
        theta: the origin.
        names: the parameters that are columns, in this order.
    """

    rows: Sequence[Row]
    theta: Mapping[str, Tensor]
    names: Sequence[str]

    def without_zeros(self) -> "Matrix":
        """Return the matrix without the rows that are theta itself."""
        rows = [row for row in self.rows if any(bool(difference.any()) for _, difference in self.differences(row))]
        return replace(self, rows=rows)

    def each(self) -> Iterator[Iterator[tuple[str, Tensor]]]:
        """Yield row after row as (name, float64 tensor of the parameter's shape), a parameter at a time."""
        for row in self.rows:
            yield self.differences(row)

    def differences(self, row: Row) -> Iterator[tuple[str, Tensor]]:
        """Yield theta_i - theta of one row, a parameter at a time."""
        parameters = row()
        for name in self.names:
            yield name, parameters[name].to(torch.float64, copy=True).sub_(self.theta[name])

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Yield blocks [n, m] of columns, each column once, of at most BLOCK_BYTES or one column."""
        for pieces in self._cut(max(1, BLOCK_BYTES // (8 * max(1, len(self.rows))))):
            block = np.empty((len(self.rows), sum(stop - start for _, start, stop in pieces)))
            for line, row in zip(block, self.rows, strict=True):
                self._fill(line, row(), pieces)
            yield block

    def _cut(self, width: int) -> Iterator[list[tuple[str, int, int]]]:
        """Yield lists of (name, first, last + 1) of flat parameters, together at most `width` columns."""
        pieces: list[tuple[str, int, int]] = []
        room = width
        for name in self.names:
            start, size = 0, self.theta[name].numel()
            while start < size:
                stop = min(size, start + room)
                pieces.append((name, start, stop))
                room -= stop - start
                start = stop
                if not room:
                    yield pieces
                    pieces, room = [], width
        if pieces:
            yield pieces

    def _fill(
        self, line: NDArray[np.float64], parameters: Mapping[str, Tensor], pieces: list[tuple[str, int, int]]
    ) -> None:
        target, place = torch.from_numpy(line), 0
        for name, start, stop in pieces:
            part = target[place : place + stop - start]
            part.copy_(parameters[name].reshape(-1)[start:stop])
            part -= self.theta[name].reshape(-1)[start:stop]
            place += stop - start
