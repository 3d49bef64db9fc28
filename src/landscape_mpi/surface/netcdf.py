"""A surface as a netCDF-4 file, which is HDF5 with named axes; computes nothing."""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from landscape_mpi.errors import printable
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE, FAILED, NOT_YET

LONGEST = 60_000
"""Bytes of an attribute; HDF5 takes no more than 64 KiB."""
NAMES = {"xcoordinates": "alpha: how far along delta", "ycoordinates": "beta: how far along eta"}


def write_netcdf(surface: Surface, path: Path) -> None:
    """Write coordinates, status, results, the job (a text) and the attributes of the root.

    Raises:
        OSError: the system refused.
    """
    with OwnFile(path, "w") as file:
        axes = [_axis(file, "xcoordinates", surface)]
        if surface.beta is not None:
            axes.insert(0, _axis(file, "ycoordinates", surface))
        for name, values in {"status": surface.status, **surface.metrics}.items():
            dataset = file.create_dataset(name, data=values)
            for index, axis in enumerate(axes):
                dataset.dims[index].attach_scale(axis)
        _explain_status(file["status"])
        if surface.job is not None:
            file.create_dataset("job", data=printable(surface.job), dtype=h5py.string_dtype())
        _attributes(file, surface.attributes)


def _axis(file: h5py.File, name: str, surface: Surface) -> h5py.Dataset:
    scale = file.create_dataset(name, data=surface.alpha if name == "xcoordinates" else surface.beta)
    scale.make_scale(name)
    scale.attrs["long_name"] = NAMES[name]
    return scale


def _explain_status(status: h5py.Dataset) -> None:
    """Say what the numbers mean, as the CF conventions do (section 3.5)."""
    status.attrs["flag_values"] = np.array([NOT_YET, DONE, FAILED], np.uint8)
    status.attrs["flag_meanings"] = "not_yet done failed"


def _attributes(file: h5py.File, attributes: Mapping[str, object]) -> None:
    for name, value in attributes.items():
        file.attrs[name] = _shortened(printable(value)) if isinstance(value, str) else value


def _shortened(text: str) -> str:
    return text.encode()[:LONGEST].decode(errors="ignore")
