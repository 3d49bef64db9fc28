"""Writes a surface in the formats of other programs: .npz for numpy, .csv, .nc (netCDF-4) and .zarr for xarray.

It writes the coordinates, the status and every result under their names in the surface file, with NaN where a point is
not done. A result of several numbers per point has axes of its own after the axes of the grid.
"""

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError, printable
from landscape_mpi.files.atomic import atomic_folder, atomic_write, in_words
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.paths import check_target
from landscape_mpi.job import AXES
from landscape_mpi.metrics.registry import axes_of
from landscape_mpi.surface.barrier import barrier_attributes
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import LETTERS
from landscape_mpi.surface.zarr_store import LONG_NAMES, META, STATUS_WORDS, write_zarr

ADVICE = "expected a place that can be written, with space for the whole file"
LONGEST = 60_000
"""Bytes of an attribute of .nc; HDF5 takes no more than 64 KiB."""


def export(source: Path, target: Path) -> None:
    """Write what a surface file holds in the format that the ending of `target` names; a file there is replaced whole.

    Raises:
        UserError: the source is no surface, the ending names no format, or the target cannot be written.
    """
    ending = target.suffix.lower()
    if ending not in WRITERS:
        found = f"the ending {target.suffix!r}" if target.suffix else "no ending"
        raise UserError(target, f"found {found}", expected=f"one of {', '.join(WRITERS)}")
    folder = ending == FOLDERS
    if folder and (target.is_symlink() or (target.exists() and not (target / META).is_file())):
        raise UserError(target, "is there, and is no folder of Zarr", expected="a new name, or a folder to replace")
    check_target(target / META if folder and target.exists() else target)
    surface = read_surface(source)
    surface = replace(surface, attributes={**surface.attributes, **barrier_attributes(surface)})
    if target.exists() and target.samefile(source):
        raise UserError(target, "is the file to read as well", expected="the name of another file")
    with in_words(target, ADVICE), (atomic_folder if folder else atomic_write)(target) as aside:
        WRITERS[ending](surface, aside)


def write_npz(surface: Surface, path: Path) -> None:
    """Write arrays; the job and the attributes (JSON) as texts, which need no pickle."""
    arrays: dict[str, Any] = {**surface.metrics, **surface.arrays, **_coordinates(surface)}
    arrays |= {"status": surface.status, "attributes": json.dumps(dict(surface.attributes))}
    if surface.job is not None:
        arrays["job"] = surface.job
    # as np.savez does; but np.savez takes the names as arguments, and so forbids some of them
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _coordinates(surface: Surface) -> dict[str, NDArray[np.float64]]:
    """Return the coordinates along each axis by the names that they have in files."""
    return {f"{letter}coordinates": at for letter, at in zip(LETTERS, surface.axes, strict=False)}


def write_csv(surface: Surface, path: Path) -> None:
    """Write a row per point, alpha first, with every digit of every number.

    Where a result has several numbers per point, each has a column of its own, named by its places:
    `spectrum_nodes.0.12`. The last column is the precision floor, where it is known. It is the same in every row, as
    there is no other place for it.
    """
    places = np.meshgrid(*reversed(surface.axes), indexing="ij")[::-1]
    columns: dict[str, NDArray[Any]] = dict(zip(AXES, places, strict=False))
    columns |= {"status": surface.status, **surface.metrics}
    for name, values in surface.arrays.items():
        for place in np.ndindex(values.shape[surface.status.ndim :]):
            columns[".".join(map(str, (name, *place)))] = values[(..., *place)]
    if (floor := surface.precision_floor) is not None:
        columns["precision_floor"] = np.full(surface.status.shape, floor)
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(map(printable, columns))
        rows.writerows(zip(*(values.ravel().tolist() for values in columns.values()), strict=True))


def write_netcdf(surface: Surface, path: Path) -> None:
    """Write HDF5 with named axes: coordinates, status, results, the job (a text) and the attributes of the root.

    Raises:
        OSError: the system refused.
    """
    coordinates = _coordinates(surface)
    scales: dict[str, NDArray[Any]] = {**coordinates, **{axis: np.arange(n) for axis, n in surface.within.items()}}
    with OwnFile(path, "w") as file:
        for name, places in scales.items():
            file.create_dataset(name, data=places).make_scale(name)
            if name in LONG_NAMES:
                file[name].attrs["long_name"] = LONG_NAMES[name]
        of_points: dict[str, NDArray[Any]] = {"status": surface.status, **surface.metrics, **surface.arrays}
        for name, values in of_points.items():
            dataset = file.create_dataset(name, data=values)
            for index, axis in enumerate([*reversed(coordinates), *axes_of(name)]):
                dataset.dims[index].attach_scale(file[axis])
        file["status"].attrs.update(STATUS_WORDS)
        if surface.job is not None:
            file.create_dataset("job", data=printable(surface.job), dtype=h5py.string_dtype())
        for name, value in surface.attributes.items():
            if isinstance(value, str):
                value = printable(value).encode()[:LONGEST].decode(errors="ignore")
            file.attrs[name] = value


FOLDERS = ".zarr"
"""The ending of a target that is a folder."""
WRITERS: Mapping[str, Callable[[Surface, Path], None]] = {
    ".npz": write_npz,
    ".csv": write_csv,
    ".nc": write_netcdf,
    FOLDERS: write_zarr,
}
"""How to write a surface, by the ending of the file's name."""
