"""Reads the files of landscaper (Vis4SciML/Landscaper): .npz with `coordinates` [dimensions, n] and `loss`.

The FIRST index of `loss` runs along the first coordinate. These files have no points that are not done.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.paths import FILE, found

ARCHIVE = ".npz"
_MEMBERS = ("loss", "coordinates")
LARGEST = 8 * untrusted.MAX_VALUES + (1 << 12)
"""Bytes of an array in an archive, its header included."""


def read_landscaper(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64]]:
    """Read a plane or a line out of an archive, only ever within `isolated`; nothing in the archive is executed.

    Returns:
        alpha [nx], beta [ny] (None on a line) and the losses [ny, nx] or [nx], float64.

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
    coordinates = coordinates.astype(np.float64)
    return coordinates[0], coordinates[1] if loss.ndim == 2 else None, loss.T.astype(np.float64)


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
