"""Where checkpoints lie on a plane, and how far off it; knows no file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.plane.plane import Plane, dot
from landscape_mpi.plane.rows import Matrix, Row

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """Checkpoints on a plane.

    Attributes:
        coordinates: float64 [n, 2] of a plane, [n, 1] of a line: alpha and beta.
        residual: float64 [n], how far off the plane.
    """

    coordinates: Values
    residual: Values


def moved_by(plane: Plane) -> tuple[str, ...]:
    """Return the names of the parameters that the plane moves at all."""
    return tuple(name for name in plane.theta if any(bool(d[name].any()) for d in _directions(plane)))


def project(rows: Sequence[Row], plane: Plane) -> Projection:
    """Return the least-squares coordinates of theta_i - theta and the length of what is left.

    Both count the parameters that the plane moves, `moved_by`: those that it ignores are in neither.
    """
    matrix = Matrix(rows, plane.theta, moved_by(plane))
    directions = [{name: d[name].double() for name in matrix.names} for d in _directions(plane)]
    normal = np.array([[dot(a, b) for b in directions] for a in directions])
    coordinates = np.array([_coordinates(matrix, row, directions, normal) for row in rows])
    residual = [_residual(matrix, row, directions, at) for row, at in zip(rows, coordinates.tolist(), strict=True)]
    return Projection(coordinates.reshape(len(rows), len(directions)), np.array(residual))


def _directions(plane: Plane) -> Sequence[Mapping[str, Tensor]]:
    return [plane.delta] if plane.eta is None else [plane.delta, plane.eta]


def _coordinates(matrix: Matrix, row: Row, directions: Sequence[Mapping[str, Tensor]], normal: Values) -> Values:
    """Solve the normal equations; directions need not be orthogonal, and not even independent."""
    right = np.zeros(len(directions))
    for name, difference in matrix.differences(row):
        right += [dot({name: d[name]}, {name: difference}) for d in directions]
    # as if both had length 1, so that no length of one is taken for rounding of the other's
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
