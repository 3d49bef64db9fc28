"""Finds the principal components of a training run's checkpoints, and where checkpoints lie on a plane.

Li et al., section 7.1: PCA of [theta_0 - theta_n; ...; theta_(n-1) - theta_n], rows centred as in the authors' code
(scikit-learn's PCA). C is the centred matrix [n, p]. If C C^T u = s^2 u, the component is C^T u / s: n x n numbers
suffice, and C is read in pieces.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import Key, UserError
from landscape_mpi.plane.parameters import Parameters, dot, standing
from landscape_mpi.plane.plane import Plane

Values = NDArray[np.float64]
Row = Callable[[], Mapping[str, Tensor]]
"""Opens a checkpoint anew: its parameters by name, views of a file where that is possible."""

BLOCK_BYTES = 1 << 27
"""How much of the matrix is held at a time, in float64."""
NOTHING = 1e-12
"""A component with less than this share of the first one's variance is rounding of float32.

A variance below the square of this share, times the sum of squares of the rows as they are, is rounding of float64.
"""
FINE = 2.0**30
"""Weights of the rows are multiples of 1/FINE: coarse enough to be the same on all processors, finer than float32."""
SIGNIFICANT = 1e-6
"""The sign of an eigenvector is that of its first entry above this share of its largest."""


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

    def differences(self, row: Row) -> Iterator[tuple[str, Tensor]]:
        """Yield theta_i - theta of one row as (name, float64 tensor of the parameter's shape)."""
        parameters = row()
        for name in self.names:
            yield name, parameters[name].to(torch.float64, copy=True).sub_(self.theta[name])

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Yield blocks [n, m] of columns, each column once, of at most BLOCK_BYTES or one column."""
        for pieces in self._columns(max(1, BLOCK_BYTES // (8 * max(1, len(self.rows))))):
            block = np.empty((len(self.rows), sum(stop - start for _, start, stop in pieces)))
            for line, row in zip(torch.from_numpy(block), self.rows, strict=True):
                parameters, place = row(), 0
                for name, start, stop in pieces:
                    part = line[place : place + stop - start]
                    part.copy_(parameters[name].reshape(-1)[start:stop])
                    part -= self.theta[name].reshape(-1)[start:stop]
                    place += stop - start
            yield block

    def _columns(self, width: int) -> Iterator[list[tuple[str, int, int]]]:
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


@dataclass(frozen=True)
class Components:
    """Unit vectors of parameter space, float32, zero in parameters that stay, and their shares of the variance."""

    directions: tuple[Parameters, ...]
    explained: tuple[float, ...]


def principal_components(matrix: Matrix, count: int) -> Components:
    """Return the first components of the centred rows.

    Raises:
        UserError: the rows span fewer dimensions than that.
    """
    rows = len(matrix.rows)
    if rows <= count:
        raise _too_few(rows, max(rows - 1, 0), count)
    products, square = gram(matrix)
    variances, vectors = (values[..., ::-1] for values in np.linalg.eigh(products))
    found = int((variances[:count] > NOTHING * max(variances[0], NOTHING * square)).sum())
    if found < count:
        raise _too_few(rows, found, count)
    weights = settled(vectors[:, :count])
    explained = variances[:count] / variances.clip(0).sum()
    return Components(_combined(matrix, weights), tuple(explained.tolist()))


def gram(matrix: Matrix) -> tuple[Values, float]:
    """Return C C^T of the centred rows, float64 [n, n], and the sum of squares of the rows as they are."""
    total, square = np.zeros((len(matrix.rows), len(matrix.rows))), 0.0
    for block in matrix.blocks():
        square += float(np.vdot(block, block))
        block -= block.mean(axis=0)
        total += block @ block.T
    return total, square


def settled(vectors: Values) -> Values:
    """Return eigenvectors [n, k] with a sign, and rounded, so that they are the same on every machine.

    The first entry that is not negligible is positive: the run starts on the positive side of its mean. Their entries
    add up to 0, as those of a centred matrix do.
    """
    centred = vectors - vectors.mean(axis=0)
    leading = np.abs(centred) > SIGNIFICANT * np.abs(centred).max(axis=0)
    first = leading.argmax(axis=0)
    signs = np.sign(centred[first, np.arange(vectors.shape[1])])
    rounded: Values = np.round(centred * signs * FINE) / FINE
    return rounded


def _combined(matrix: Matrix, weights: Values) -> tuple[Parameters, ...]:
    """Return the sums of the rows with some weights [n, k], scaled to length 1, float32; 0 in parameters that stay."""
    sums = [
        {name: torch.zeros_like(matrix.theta[name], dtype=torch.float64) for name in matrix.names} for _ in weights.T
    ]
    for row, factors in zip(matrix.rows, weights.tolist(), strict=True):
        for name, difference in matrix.differences(row):
            for total, factor in zip(sums, factors, strict=True):
                # two steps: processors that add a product in one step round it another way
                total[name] += difference * factor
    components = []
    for total in sums:
        # a length in float32 is the same however its squares were added
        length = float(np.float32(math.sqrt(dot(total, total))))
        still = {name: standing(tensor) for name, tensor in matrix.theta.items()}
        components.append(still | {name: (tensor / length).float() for name, tensor in total.items()})
    return tuple(components)


def _too_few(rows: int, found: int, count: int) -> UserError:
    shape, needed = (
        ("line", "two of them"),
        ("plane", "three checkpoints that do not lie on a line"),
        ("volume", "four checkpoints that do not lie on a plane"),
    )[count - 1]
    checkpoints = f"{rows} checkpoint{'' if rows == 1 else 's'}"
    span = f", which span {found} dimension{'' if found == 1 else 's'} around their mean"
    what = (f"found {checkpoints} other than ", Key("model.checkpoint"), span)
    return UserError("plane.trajectory", what, remedy=f"a {shape} needs {needed}")


@dataclass(frozen=True)
class Projection:
    """Checkpoints on a plane.

    Attributes:
        coordinates: float64 [n, 2] of a plane, [n, 1] of a line: alpha and beta.
        residual: float64 [n], how far off the plane.
    """

    coordinates: Values
    residual: Values


def project(rows: Sequence[Row], plane: Plane) -> Projection:
    """Return the least-squares coordinates of theta_i - theta and the length of what is left.

    Both count only the parameters that the plane moves, and leave out the parameters that it ignores.
    """
    moving = tuple(name for name in plane.theta if any(bool(d[name].any()) for d in plane.directions))
    matrix = Matrix(rows, plane.theta, moving)
    directions = [{name: d[name].double() for name in moving} for d in plane.directions]
    normal = np.array([[dot(a, b) for b in directions] for a in directions])
    coordinates = np.array([_coordinates(matrix, row, directions, normal) for row in rows])
    residual = [_residual(matrix, row, directions, at) for row, at in zip(rows, coordinates.tolist(), strict=True)]
    return Projection(coordinates.reshape(len(rows), len(directions)), np.array(residual))


def _coordinates(matrix: Matrix, row: Row, directions: Sequence[Mapping[str, Tensor]], normal: Values) -> Values:
    """Solve the normal equations; directions need not be orthogonal, and not even independent."""
    right = np.zeros(len(directions))
    for name, difference in matrix.differences(row):
        right += [dot({name: d[name]}, {name: difference}) for d in directions]
    # solved as if both had length 1: otherwise a short direction would count as rounding of a long one
    lengths = np.sqrt(np.diag(normal))
    lengths[lengths == 0] = 1
    solution: Values = np.linalg.lstsq(normal / np.outer(lengths, lengths), right / lengths, rcond=None)[0]
    return solution / lengths


def _residual(matrix: Matrix, row: Row, directions: Sequence[Mapping[str, Tensor]], at: Sequence[float]) -> float:
    square = 0.0
    for name, difference in matrix.differences(row):
        for coordinate, direction in zip(at, directions, strict=True):
            difference -= coordinate * direction[name]
        square += float(torch.sum(difference * difference))
    return math.sqrt(square)
