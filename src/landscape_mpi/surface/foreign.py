"""Results in the surface files of tomgoldstein/loss-landscape; knows nothing of our own schema.

Those files have no status: a point that was not computed holds -1 (`min_eig`: +1). Their planes are allocated
as [nx, ny] but filled through the flat index of a [ny, nx] mesh, so that only a reshape, never a transposition,
puts rectangular ones right (square ones look the same either way).
"""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted

_NOT_YET = {"min_eig": 1.0}
_METRICS = ("train_loss", "train_acc", "test_loss", "test_acc", "min_eig", "max_eig")
_COORDINATES = ("xcoordinates", "ycoordinates")


def is_foreign(file: h5py.File) -> bool:
    """Return whether the file was written by tomgoldstein/loss-landscape rather than by us."""
    return "schema" not in file.attrs and "status" not in file


def results(
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
    metrics = {
        name: _values(dataset, shape)
        for name, dataset in datasets.items()
        if name in _METRICS or _fits(name, dataset, shape)
    }
    done = [~not_yet for _, not_yet in metrics.values()]
    status = np.any(done, axis=0).astype(np.uint8) if done else np.zeros(shape, np.uint8)
    return {name: values for name, (values, _) in metrics.items()}, status


def _fits(name: str, dataset: h5py.Dataset, shape: tuple[int, ...]) -> bool:
    return name not in _COORDINATES and untrusted.is_number(dataset) and dataset.size == np.prod(shape)


def _values(dataset: h5py.Dataset, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the values with NaN where there are none yet, and where that is."""
    stored: NDArray[Any] = untrusted.numbers(dataset)
    if stored.size != np.prod(shape):
        raise UserError(
            dataset.file.filename,
            f"{dataset.name[1:]} has shape {stored.shape}, which does not fit the coordinates (expected {shape})",
        )
    values = stored.ravel().reshape(shape).astype(np.float64)
    not_yet = values == _NOT_YET.get(dataset.name[1:], -1.0)
    return np.where(not_yet, np.nan, values), not_yet
