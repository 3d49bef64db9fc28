"""Reading HDF5 files that somebody else may have written; knows nothing of what they should contain.

HDF5 files can point at other files of the machine (external links, external raw storage, virtual datasets).
A reader that followed them would show the contents of those files, so every such pointer is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError

MAX_VALUES = 1 << 24
"""The largest dataset that is read (4096 x 4096 points): a few bytes on disk can claim to be any size."""


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read, without a lock, so that a sweep can go on writing to it.

    Raises:
        UserError: the file is missing, is no HDF5 file, or is damaged where it is read.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise UserError(f"{path}: expected a surface file, found {found}.")
    try:
        if not h5py.is_hdf5(path):
            raise UserError(f"{path}: expected a surface file, found a file that is not HDF5.")
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: the file is damaged or cannot be read ({_one_line(error)}).") from error


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return the datasets at the root by name.

    Raises:
        UserError: a member of the root is not stored in the file itself.
    """
    found = {}
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{file.filename}: {name} is a link; only data stored in the file itself is read.")
        member = file[name]
        if isinstance(member, h5py.Dataset):
            found[name] = _inside(member)
    return found


def is_number(dataset: h5py.Dataset) -> bool:
    """Return whether the dataset holds integers or floating-point numbers."""
    return dataset.dtype.kind in "fiu"


def numbers(dataset: h5py.Dataset) -> NDArray[Any]:
    """Read a whole dataset of numbers, in its own type and shape.

    Raises:
        UserError: it holds something else than numbers, or more than `MAX_VALUES` of them.
    """
    where = f"{dataset.file.filename}: {dataset.name[1:]}"
    if not is_number(dataset):
        raise UserError(f"{where} holds {dataset.dtype}, expected numbers.")
    if dataset.size is None or dataset.size > MAX_VALUES:
        raise UserError(f"{where} claims {dataset.size} values, expected at most {MAX_VALUES}.")
    return np.asarray(dataset[()])


def text(dataset: h5py.Dataset) -> str | None:
    """Read a scalar string; None when the dataset is anything else."""
    if dataset.shape != () or h5py.check_string_dtype(dataset.dtype) is None:
        return None
    return str(dataset.asstr(errors="replace")[()])


def attributes(file: h5py.File) -> dict[str, object]:
    """Return the attributes of the root as plain Python values; arrays stay arrays."""
    return {name: _plain(value) for name, value in file.attrs.items()}


def _inside(dataset: h5py.Dataset) -> h5py.Dataset:
    """Return the dataset if its values lie in the file itself."""
    if dataset.is_virtual or dataset.external is not None:
        raise UserError(
            f"{dataset.file.filename}: {dataset.name[1:]} keeps its values in another file; "
            "only data stored in the file itself is read."
        )
    return dataset


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, h5py.Empty):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
