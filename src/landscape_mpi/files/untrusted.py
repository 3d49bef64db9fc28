"""Reads datasets, texts and attributes of HDF5 files that somebody else may have written.

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
from landscape_mpi.files.paths import FILE, found

MAX_VALUES = 1 << 24
"""The largest dataset that is read (4096 x 4096 points), unless the file has at least a byte for every value.

A few bytes on disk can claim to be any size.
"""
MAX_TOTAL = 1 << 26
"""The most values that the datasets of a group have together, unless the file has as many bytes."""
MAX_TEXT = 1 << 20
"""The most bytes of a text; a job file has at most a million."""
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""Filters that h5py brings along; for any other HDF5 would look for a library to load."""


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read, without a lock, so that a sweep can go on writing; call it only within `isolated`.

    Raises:
        UserError: the file is missing, is no HDF5 file, or is damaged; also for what goes wrong while it is open.
    """
    if (what := found(path)) != FILE:
        raise UserError(path, f"expected a surface file, found {what}")
    try:
        if not h5py.is_hdf5(path):
            raise UserError(path, "expected a surface file, found a file that is not HDF5")
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        words = " ".join(str(error).split()).rstrip(".")
        raise UserError(path, f"the file is damaged or cannot be read ({words})") from error


def datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """Return the datasets of the root or of another group by name.

    Raises:
        UserError: a member is not stored in the file itself, or they claim to be of an absurd size.
    """
    path, found = group.file.filename, {}
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(path, f"{name} is a link", remedy="only data stored in the file itself is read")
        member = group[name]
        if isinstance(member, h5py.Dataset):
            found[name] = inside(member)
    total = sum(dataset.size or 0 for dataset in found.values())
    if total > max(MAX_TOTAL, _bytes(group)):
        raise UserError(path, f"{len(found)} datasets claim {total} values", expected=f"at most {MAX_TOTAL}")
    return found


def is_number(dataset: h5py.Dataset) -> bool:
    """Return whether the dataset holds integers or floating-point numbers."""
    return dataset.dtype.kind in "fiu"


def numbers(dataset: h5py.Dataset) -> NDArray[Any]:
    """Read a whole dataset of numbers, in its own type and shape.

    Raises:
        UserError: it holds something else than numbers.
    """
    if not is_number(dataset):
        raise UserError(dataset.file.filename, f"{dataset.name[1:]} holds {dataset.dtype}, expected numbers")
    if dataset.size is None:
        raise UserError(dataset.file.filename, f"{dataset.name[1:]} holds no values, expected numbers")
    return np.asarray(dataset[()])


def text(dataset: h5py.Dataset) -> str | None:
    """Read a scalar string; None when the dataset is anything else.

    Raises:
        UserError: it is longer than `MAX_TEXT`.
    """
    if dataset.shape != () or h5py.check_string_dtype(dataset.dtype) is None:
        return None
    if dataset.dtype.itemsize <= MAX_TEXT and len(found := str(dataset.asstr(errors="replace")[()])) <= MAX_TEXT:
        return found
    raise UserError(dataset.file.filename, f"{dataset.name[1:]} is longer than {MAX_TEXT} bytes", expected="a page")


def attributes(file: h5py.File) -> dict[str, str | int | float]:
    """Return those attributes of the root that are a text or a number, as plain Python values.

    Raises:
        UserError: one is longer than `MAX_TEXT`.
    """
    found = {name: plain(file.attrs[name]) for name in file.attrs}
    for name, value in found.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise UserError(file.filename, f"the attribute {name} is longer than {MAX_TEXT} bytes", expected="a line")
    return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


def plain(value: object) -> object:
    """Return the value of an attribute as Python's own text or number, where it is one."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def inside(dataset: h5py.Dataset) -> h5py.Dataset:
    """Return the dataset if its values lie in the file itself and h5py alone can decode them.

    Raises:
        UserError: they do not, or there would be more of them than any file of ours has.
    """
    if (dataset.size or 0) > max(MAX_VALUES, _bytes(dataset)):
        raise UserError(
            dataset.file.filename, f"{dataset.name[1:]} claims {dataset.size} values, expected at most {MAX_VALUES}"
        )
    if dataset.is_virtual or dataset.external is not None:
        raise UserError(
            dataset.file.filename,
            f"{dataset.name[1:]} keeps its values in another file",
            remedy="only data stored in the file itself is read",
        )
    made = dataset.id.get_create_plist()
    for code in (made.get_filter(i)[0] for i in range(made.get_nfilters())):
        if code not in FILTERS:
            raise UserError(
                dataset.file.filename,
                f"{dataset.name[1:]} is stored through filter {code}",
                expected=f"none but {', '.join(FILTERS.values())}",
            )
    return dataset


def _bytes(member: h5py.Dataset | h5py.Group) -> int:
    return Path(member.file.filename).stat().st_size
