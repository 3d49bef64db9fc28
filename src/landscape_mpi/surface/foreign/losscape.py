"""Reads the files of losscape (alxndrTL/losscape): HDF5 with `X`, `Y` and `losses`, [ny, nx] as numpy's meshgrid.

These files have no points that are not done.
"""

from collections.abc import Mapping

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted

_MESH = ("X", "Y", "losses")


def is_losscape(datasets: Mapping[str, h5py.Dataset]) -> bool:
    """Return whether a file holds what losscape writes."""
    return set(_MESH) <= set(datasets)


def read_losscape(
    datasets: Mapping[str, h5py.Dataset],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Read a plane; its losses are those of the loader of training examples.

    Returns:
        alpha [nx], beta [ny] and the losses [ny, nx], float64.

    Raises:
        UserError: X and Y are no mesh of the losses' shape.
    """
    columns, rows, losses = (untrusted.numbers(datasets[name]) for name in _MESH)
    path = datasets["X"].file.filename
    if losses.ndim != 2 or not losses.size or not columns.shape == rows.shape == losses.shape:
        raise UserError(
            path,
            f"X {columns.shape}, Y {rows.shape} and losses {losses.shape} do not fit together",
            expected="a mesh of rows and columns, as losscape writes",
        )
    if (columns != columns[:1]).any() or (rows != rows[:, :1]).any():
        raise UserError(path, "X and Y are no mesh", expected="equal rows and equal columns")
    return columns[0].astype(np.float64), rows[:, 0].astype(np.float64), losses.astype(np.float64)
