"""Reads the files of tomgoldstein/loss-landscape: results on a line or plane, and projected training runs.

Surface files have no status: a point that was not computed holds -1 (`min_eig`: +1). Planes are allocated as [nx, ny]
but filled through the flat index of a [ny, nx] mesh. Only a reshape, never a transposition, therefore corrects
rectangular planes (square planes look the same either way).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.surface.training import Trajectory

_NOT_YET = {"min_eig": 1.0}
_METRICS = ("train_loss", "train_acc", "test_loss", "test_acc", "min_eig", "max_eig")
_COORDINATES = ("xcoordinates", "ycoordinates")
_PROJECTED = ("proj_xcoord", "proj_ycoord")


def is_loss_landscape(file: h5py.File) -> bool:
    """Return whether the file was written by tomgoldstein/loss-landscape rather than by us."""
    return "schema" not in file.attrs and "status" not in file


def read_results(
    datasets: Mapping[str, h5py.Dataset], shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.uint8]]:
    """Read all metrics and derive the status.

    Args:
        datasets: the datasets at the root of the file.
        shape: (ny, nx) of a plane, (nx,) of a line.

    Returns:
        The metrics in that shape, NaN where not computed, and the status: 1 where any metric has a value.

    Raises:
        UserError: a metric has another number of points than the grid.
    """
    points = np.prod(shape)
    metrics: dict[str, NDArray[np.float64]] = {}
    status = np.zeros(shape, np.uint8)
    for name, dataset in datasets.items():
        fits = name not in _COORDINATES and untrusted.is_number(dataset) and dataset.size == points
        if not (fits or name in _METRICS):
            continue
        stored: NDArray[Any] = untrusted.numbers(dataset)
        if stored.size != points:
            raise UserError(
                dataset.file.filename,
                f"{name} has shape {stored.shape}, which does not fit the coordinates (expected {shape})",
            )
        values = stored.ravel().reshape(shape).astype(np.float64)
        computed = values != _NOT_YET.get(name, -1.0)
        metrics[name] = np.where(computed, values, np.nan)
        status[computed] = 1
    return metrics, status


def read_projection(path: Path) -> Trajectory:
    """Read the path of a training run that `plot_trajectory.py` projected onto a plane.

    Such a file has no epochs, which are counted from 0. It also has no distance from the plane and no learning rates
    (NaN).

    Raises:
        UserError: the file is missing, damaged, or does not hold two rows of finite coordinates of one length.
    """
    return isolated([path], _read_projection, path)


def _read_projection(path: Path) -> Trajectory:
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        if not set(_PROJECTED) <= set(found):
            raise UserError(
                path,
                f"found {', '.join(sorted(found)[:5]) or 'no datasets'}",
                expected=f"{' and '.join(_PROJECTED)}, as plot_trajectory.py of tomgoldstein/loss-landscape writes",
            )
        alpha, beta = (untrusted.numbers(found[name]).astype(np.float64) for name in _PROJECTED)
    if alpha.ndim != 1 or not alpha.size or alpha.shape != beta.shape or not np.isfinite([alpha, beta]).all():
        raise UserError(
            path,
            f"{_PROJECTED[0]} {alpha.shape} and {_PROJECTED[1]} {beta.shape}",
            expected="two rows of finite numbers, of one length",
        )
    unknown = np.full(alpha.shape, np.nan)
    return Trajectory((alpha, beta), unknown, np.arange(alpha.size), unknown, unknown)
