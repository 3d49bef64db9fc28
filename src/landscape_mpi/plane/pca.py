"""The principal components of checkpoints, through their Gram matrix; knows no file and no plane.

Li et al., section 7.1: PCA of [theta_0 - theta_n; ...; theta_(n-1) - theta_n], rows centred as in the authors' code
(scikit-learn's PCA). With C the centred matrix [n, p], the component of C C^T u = s^2 u is C^T u / s: n x n numbers
suffice, and C is read in pieces.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.plane.directions import Parameters
from landscape_mpi.plane.plane import dot
from landscape_mpi.plane.rows import Matrix

Values = NDArray[np.float64]

NOTHING = 1e-12
"""A component with less than this share of the first one's variance is rounding of float32; so is all variance with
less than the square of it of the rows' own squares, which is rounding of float64."""
FINE = 2.0**30
"""Weights of the rows are multiples of 1/FINE: coarse enough to forget how a processor rounds, finer than float32."""
SIGNIFICANT = 1e-6


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
        raise UserError(_too_few(rows, max(rows - 1, 0), count))
    products, square = gram(matrix)
    variances, vectors = (values[..., ::-1] for values in np.linalg.eigh(products))
    found = int((variances[:count] > NOTHING * max(variances[0], NOTHING * square)).sum())
    if found < count:
        raise UserError(_too_few(rows, found, count))
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
    """Return the sums of the rows with some weights [n, k], of unit length."""
    sums = [
        {name: torch.zeros_like(matrix.theta[name], dtype=torch.float64) for name in matrix.names} for _ in weights.T
    ]
    for row, factors in zip(matrix.each(), weights.tolist(), strict=True):
        for name, difference in row:
            for total, factor in zip(sums, factors, strict=True):
                # two steps: processors that add a product in one step round it another way
                total[name] += difference * factor
    return tuple(_unit(total, matrix.theta) for total in sums)


def _unit(total: Parameters, theta: Mapping[str, Tensor]) -> Parameters:
    """Return a vector of length 1, float32, zero in the parameters that it lacks."""
    # a length in float32 is the same however its squares were added
    length = float(np.float32(math.sqrt(dot(total, total))))
    return {
        name: (total[name] / length).float() if name in total else torch.zeros_like(tensor, dtype=torch.float32)
        for name, tensor in theta.items()
    }


def _too_few(rows: int, found: int, count: int) -> str:
    shape, needed = ("plane", "three checkpoints that do not lie on a line") if count > 1 else ("line", "two of them")
    checkpoints = f"{rows} checkpoint{'' if rows == 1 else 's'}"
    return (
        f"plane.trajectory: found {checkpoints} other than model.checkpoint, which span {found} "
        f"dimension{'' if found == 1 else 's'} around their mean; a {shape} needs {needed}."
    )
