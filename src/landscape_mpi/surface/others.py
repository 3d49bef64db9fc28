"""Losses in the files of losscape and landscaper; knows nothing of other schemas, and judges no axis.

losscape (alxndrTL/losscape) writes HDF5: `X`, `Y`, `losses` [ny, nx], the first two as numpy's meshgrid gives them.
landscaper (Vis4SciML/Landscaper) writes .npz: `coordinates` [dimensions, n] and `loss`, whose FIRST index runs along
the first coordinate. Neither knows points that are not done.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.paths import FILE, found

ARCHIVE = ".npz"
_MESH = ("X", "Y", "losses")
_MEMBERS = ("loss", "coordinates")
LARGEST = 8 * untrusted.MAX_VALUES + (1 << 12)
"""Bytes of an array in an archive, its header included."""


class Losses(NamedTuple):
    """alpha [nx], beta [ny] (None on a line), and the losses [ny, nx] or [nx] by name."""

    alpha: NDArray[Any]
    beta: NDArray[Any] | None
    metrics: Mapping[str, NDArray[np.float64]]


def is_losscape(datasets: Mapping[str, h5py.Dataset]) -> bool:
    """Return whether a file holds what losscape writes."""
    return set(_MESH) <= set(datasets)


def read_losscape(datasets: Mapping[str, h5py.Dataset]) -> Losses:
    """Read a plane; its losses are those of the loader of training images, and so `train_loss`.

    Raises:
        UserError: X and Y are no mesh of the losses' shape.
    """
    columns, rows, losses = (untrusted.numbers(datasets[name]) for name in _MESH)
    if losses.ndim != 2 or not losses.size or not columns.shape == rows.shape == losses.shape:
        raise UserError(
            f"{datasets['X'].file.filename}",
            f"X {columns.shape}, Y {rows.shape} and losses {losses.shape} do not fit together",
            expected="a mesh of rows and columns, as losscape writes",
        )
    if (columns != columns[:1]).any() or (rows != rows[:, :1]).any():
        raise UserError(
            f"{datasets['X'].file.filename}", "X and Y are no mesh", expected="equal rows and equal columns"
        )
    return Losses(columns[0], rows[:, 0], {"train_loss": losses.astype(np.float64)})


def read_landscaper(path: Path) -> Losses:
    """Read a plane or a line out of an archive; nothing in it is executed. Only ever within `isolated`.

    Raises:
        UserError: there is no such file, it is damaged, or holds something else.
    """
    if (what := found(path)) != FILE:
        raise UserError(path, f"expected a surface file, found {what}")
    try:
        with zipfile.ZipFile(path) as archive:
            loss, coordinates = (_array(archive, name, path) for name in _MEMBERS)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise UserError(path, f"the file is damaged or cannot be read ({' '.join(str(error).split())})") from error
    if coordinates.ndim != 2 or loss.shape != (coordinates.shape[1],) * len(coordinates) or loss.ndim not in (1, 2):
        raise UserError(
            path,
            f"loss {loss.shape} and coordinates {coordinates.shape}",
            expected="[n, n] and [2, n], a plane (landscaper's `dim=2`), or [n] and [1, n], a line",
        )
    return Losses(coordinates[0], coordinates[1] if loss.ndim == 2 else None, {"loss": loss.T.astype(np.float64)})


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    names = [member.removesuffix(".npy") for member in archive.namelist()]
    if name not in names:
        raise UserError(
            path, f"found {', '.join(names[:5]) or 'nothing'}", expected="`loss` and `coordinates`, as landscaper has"
        )
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > LARGEST:
        raise UserError(path, f"{name} claims {member.file_size} bytes", expected=f"at most {LARGEST}")
    with archive.open(member) as stream:
        values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if values.dtype.kind not in "fiu":
        raise UserError(path, f"{name} holds {values.dtype}, expected numbers")
    return values
