"""Solves the linear assignment problem: which of n units to put in which of n places, for the largest sum.

It uses shortest augmenting paths, O(n^3): R. Jonker and A. Volgenant, Computing 38 (1987), 325-340, as in D. F.
Crouse, IEEE Transactions on Aerospace and Electronic Systems 52 (2016), 1679-1696. The code is our own and not scipy's:
scipy would be a dependency for 40 lines, and ties must be broken alike wherever a sweep goes on.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def assign(gains: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Return the permutation of the largest sum, and the proof of it.

    Args:
        gains: float64 [n, n], finite: what row i gets of column j.

    Returns:
        The column of each row, [n], and numbers u of the rows and v of the columns. They have u_i + v_j >= gains_ij,
        with equality where column j is the column of row i: no permutation has a larger sum than that of u and v.

    >>> assign(np.array([[1.0, 5.0], [2.0, 3.0]]))[0].tolist()
    [1, 0]
    """
    costs = -gains
    n = len(costs)
    u, v = np.zeros(n), costs.min(axis=0, initial=np.inf) if n else np.zeros(0)
    row_of, column_of = np.full(n, -1), np.full(n, -1)
    for column in range(n - 1, -1, -1):  # give each column its cheapest row, where that row is free
        row = int(costs[:, column].argmin())
        if column_of[row] < 0:
            column_of[row], row_of[column] = column, row
    for start in np.flatnonzero(column_of < 0):
        distance, before = np.full(n, np.inf), np.full(n, -1)
        done, rows = np.zeros(n, bool), []
        row, length = int(start), 0.0
        while True:
            rows.append(row)
            through = length + costs[row] - u[row] - v
            closer = ~done & (through < distance)
            distance[closer], before[closer] = through[closer], row
            column = int(np.where(done, np.inf, distance).argmin())
            length, done[column] = float(distance[column]), True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        u[start] += length
        u[rows[1:]] += length - distance[column_of[rows[1:]]]
        v[done] -= length - distance[done]
        while True:  # follow the path back to the row at which it began
            row = int(before[column])
            row_of[column] = row
            column_of[row], column = column, column_of[row]
            if row == start:
                break
    return column_of, -u, -v
