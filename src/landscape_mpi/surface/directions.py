"""Directions out of a direction file or a surface file, ours or tomgoldstein/loss-landscape's; knows no network."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.surface.schema import check_schema

GROUPS = ("xdirection", "ydirection", "xbuffers", "ybuffers")
LONGEST = 1000
"""Characters of a parameter's name."""
StoredDirection = list[tuple[str | None, NDArray[np.float32]]]


def read_directions(path: Path, line: bool) -> tuple[StoredDirection, StoredDirection | None]:
    """Return delta and, unless only a line is wanted, eta: names where the file has them, and float32 arrays.

    Raises:
        UserError: the file is missing, not HDF5 or damaged, a group is missing, or a member is not an array of numbers.
    """
    return isolated([path], _read, path, line)


def read_statistics(path: Path, line: bool) -> tuple[StoredDirection, StoredDirection | None] | None:
    """Return which way delta and eta take the running statistics; None where the file does not say.

    Raises:
        UserError: as `read_directions`.
    """
    return isolated([path], _read_statistics, path, line)


def read_fingerprints(path: Path) -> dict[str, str]:
    """Return the SHA-256 of what a surface of ours was made from, by attribute; nothing of other files.

    Raises:
        UserError: as `read_directions`.
    """
    return isolated([path], _read_fingerprints, path)


def directions_sha256(directions: Mapping[str, Sequence[tuple[str | None, NDArray[Any]]]]) -> str:
    """Return the SHA-256 of names, shapes and float32 bytes of directions, by group."""
    digest = hashlib.sha256()
    for group in sorted(directions):
        for name, values in directions[group]:
            digest.update(f"{group}/{name}{values.shape}".encode())
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()


def _read_fingerprints(path: Path) -> dict[str, str]:
    with untrusted.open_file(path) as file:
        found = untrusted.attributes(file)
        return {name: str(text) for name, text in found.items() if name.endswith("_sha256")}


def _check_sound(file: h5py.File) -> None:
    """Refuse directions that are not those that the file was written with.

    Raises:
        UserError: they are not, or the file is of a schema that this version does not know.
    """
    path, attributes = Path(file.filename), untrusted.attributes(file)
    if "schema" in attributes:
        check_schema(path, attributes["schema"])
    recorded = attributes.get("directions_sha256")
    if recorded is None:
        return
    if recorded != directions_sha256({group: _direction(file, group) for group in GROUPS if group in file}):
        raise UserError(
            "plane.path",
            f"{path} is damaged: its directions are not those that it was written with (directions_sha256 differs)",
            expected="a sound file",
        )


def _read_statistics(path: Path, line: bool) -> tuple[StoredDirection, StoredDirection | None] | None:
    with untrusted.open_file(path) as file:
        if "xbuffers" not in file:
            return None
        return _direction(file, "xbuffers"), None if line else _direction(file, "ybuffers")


def _read(path: Path, line: bool) -> tuple[StoredDirection, StoredDirection | None]:
    with untrusted.open_file(path) as file:
        _check_sound(file)
        return _direction(file, "xdirection"), None if line else _direction(file, "ydirection")


def _direction(file: h5py.File, group: str) -> StoredDirection:
    members = file.get(group)
    if not isinstance(members, h5py.Group) or not isinstance(file.get(group, getlink=True), h5py.HardLink):
        raise UserError("plane.path", f"{file.filename} has no group `{group}`", expected="a direction or surface file")
    datasets = untrusted.datasets(members)
    names = [str(i) for i in range(len(datasets))]
    if not datasets or set(names) != set(datasets):
        raise UserError(
            "plane.path", f"{file.filename}: `{group}` holds {sorted(datasets)[:3]}", expected="`0`, `1`, ..."
        )
    return [_member(datasets[name]) for name in names]


def _member(dataset: h5py.Dataset) -> tuple[str | None, NDArray[np.float32]]:
    name = untrusted.plain(dataset.attrs["name"]) if "name" in dataset.attrs else None
    return str(name)[:LONGEST] if name is not None else None, untrusted.numbers(dataset).astype(np.float32)
