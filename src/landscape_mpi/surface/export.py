"""A surface in the formats of other programs: .npz, .csv, .nc; computes nothing.

What is written are the coordinates, the status and every result under the names they have in the surface file, with NaN
where a point is not done.
"""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError, printable
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.files.paths import check_target
from landscape_mpi.surface.netcdf import write_netcdf
from landscape_mpi.surface.read import Surface, read_surface

ADVICE = "expected a place that can be written, with space for the whole file"


def export(source: Path, target: Path) -> None:
    """Write what a surface file holds in the format that the ending of `target` names; a file there is replaced whole.

    Raises:
        UserError: the source is no surface, the ending names no format, or the target cannot be written.
    """
    write = _writer(target)
    surface = read_surface(source)
    if target.exists() and target.samefile(source):
        raise UserError(target, "is the file to read as well", expected="the name of another file")
    with in_words(target, ADVICE), atomic_write(target) as aside:
        write(surface, aside)


def _writer(target: Path) -> Callable[[Surface, Path], None]:
    if target.suffix.lower() not in WRITERS:
        found = f"the ending {target.suffix!r}" if target.suffix else "no ending"
        raise UserError(target, f"found {found}", expected=f"one of {', '.join(WRITERS)}")
    check_target(target)
    return WRITERS[target.suffix.lower()]


def _write_npz(surface: Surface, path: Path) -> None:
    """Write arrays; the job and the attributes (JSON) as texts, which need no pickle."""
    axes = {"xcoordinates": surface.alpha} | ({} if surface.beta is None else {"ycoordinates": surface.beta})
    texts = {"attributes": json.dumps(dict(surface.attributes))} | ({} if surface.job is None else {"job": surface.job})
    _write_arrays(path, {**surface.metrics, **axes, "status": surface.status, **texts})


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    # as np.savez does, which takes names for arguments and so has some that no array can have
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _write_csv(surface: Surface, path: Path) -> None:
    """Write a row a point, beta by beta, with every digit of every number."""
    columns: dict[str, NDArray[Any]] = {**_coordinates(surface), "status": surface.status, **surface.metrics}
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(map(printable, columns))
        rows.writerows(zip(*(values.ravel().tolist() for values in columns.values()), strict=True))


def _coordinates(surface: Surface) -> dict[str, NDArray[np.float64]]:
    """Return alpha and, on a plane, beta of every point."""
    if surface.beta is None:
        return {"alpha": surface.alpha}
    alpha, beta = np.meshgrid(surface.alpha, surface.beta)
    return {"alpha": alpha, "beta": beta}


WRITERS: Mapping[str, Callable[[Surface, Path], None]] = {
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".nc": write_netcdf,
}
"""How to write a surface, by the ending of the file's name."""
