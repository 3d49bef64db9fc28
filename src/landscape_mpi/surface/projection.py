"""Paths in the projection files of tomgoldstein/loss-landscape; knows nothing of the surface that they belong to."""

from pathlib import Path

import numpy as np

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.surface.trajectory import Trajectory

_COORDINATES = ("proj_xcoord", "proj_ycoord")


def read_projection(path: Path) -> Trajectory:
    """Read the path of a training run that `plot_trajectory.py` projected onto a plane.

    Such a file knows no epochs, which are counted from 0, no distance from the plane and no learning rates (NaN).

    Raises:
        UserError: the file is missing, damaged, or does not hold two rows of finite coordinates of one length.
    """
    return isolated([path], _read, path)


def _read(path: Path) -> Trajectory:
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        if not set(_COORDINATES) <= set(found):
            raise UserError(
                path,
                f"found {', '.join(sorted(found)[:5]) or 'no datasets'}",
                expected=f"{' and '.join(_COORDINATES)}, as plot_trajectory.py of tomgoldstein/loss-landscape writes",
            )
        alpha, beta = (untrusted.numbers(found[name]).astype(np.float64) for name in _COORDINATES)
    if alpha.ndim != 1 or not alpha.size or alpha.shape != beta.shape or not np.isfinite([alpha, beta]).all():
        raise UserError(
            path,
            f"{_COORDINATES[0]} {alpha.shape} and {_COORDINATES[1]} {beta.shape}",
            expected="two rows of finite numbers, of one length",
        )
    unknown = np.full(alpha.shape, np.nan)
    return Trajectory(alpha, beta, unknown, np.arange(alpha.size), unknown, unknown)
