"""Reads the directions of a plane out of a direction file or a surface file, ours or tomgoldstein/loss-landscape's."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.surface.schema import LETTERS, check_schema

GROUPS = tuple(f"{letter}{what}" for letter in LETTERS for what in ("direction", "buffers"))
LONGEST = 1000
"""Characters of a parameter's name."""
StoredDirection = list[tuple[str | None, NDArray[np.float32]]]


@dataclass(frozen=True)
class Directions:
    """What a direction or surface file holds of a plane.

    Attributes:
        axes: delta, eta, ...: as many as were asked for, each in the order of the file.
        buffers: which way each takes the running statistics; empty where the file does not say.
        fingerprints: the SHA-256 of what a surface of ours was made from, by attribute; nothing in other files.
    """

    axes: tuple[StoredDirection, ...]
    buffers: tuple[StoredDirection, ...]
    fingerprints: Mapping[str, str]


def read_directions(path: Path, axes: int) -> Directions:
    """Return the first directions that a file holds, one an axis: names where the file has them, and float32 arrays.

    Raises:
        UserError: the file is missing, not HDF5 or damaged, a group is missing, or a member is not an array of numbers.
    """
    return isolated([path], _read, path, axes)


def directions_sha256(directions: Mapping[str, Sequence[tuple[str | None, NDArray[Any]]]]) -> str:
    """Return the SHA-256 of names, shapes and float32 bytes of directions, by group."""
    digest = hashlib.sha256()
    for group in sorted(directions):
        for name, values in directions[group]:
            digest.update(f"{group}/{name}{values.shape}".encode())
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()


def _read(path: Path, axes: int) -> Directions:
    with untrusted.open_file(path) as file:
        attributes = untrusted.attributes(file)
        if "schema" in attributes:
            check_schema(path, attributes["schema"])
        recorded = attributes.get("directions_sha256")
        if recorded is not None:
            groups = {group: _direction(file, group) for group in GROUPS if group in file}
            if recorded != directions_sha256(groups):
                raise UserError(
                    "plane.path",
                    f"{path} is damaged: its directions are not those that it was written with "
                    "(directions_sha256 differs)",
                    expected="a sound file",
                )
        letters = LETTERS[:axes]
        return Directions(
            axes=tuple(_direction(file, f"{letter}direction") for letter in letters),
            buffers=tuple(_direction(file, f"{letter}buffers") for letter in letters) if "xbuffers" in file else (),
            fingerprints={name: str(text) for name, text in attributes.items() if name.endswith("_sha256")},
        )


def _direction(file: h5py.File, group: str) -> StoredDirection:
    members = file.get(group)
    if members is None and "generator" in file.attrs:
        raise UserError(
            "plane.path",
            f"{file.filename} holds no directions, only what they are drawn by",
            remedy="draw them: python -m landscape_mpi export SURFACE --directions FILE",
        )
    if not isinstance(members, h5py.Group) or not isinstance(file.get(group, getlink=True), h5py.HardLink):
        raise UserError("plane.path", f"{file.filename} has no group `{group}`", expected="a direction or surface file")
    datasets = untrusted.datasets(members)
    names = [str(i) for i in range(len(datasets))]
    if not datasets or set(names) != set(datasets):
        raise UserError(
            "plane.path", f"{file.filename}: `{group}` holds {sorted(datasets)[:3]}", expected="`0`, `1`, ..."
        )
    found: StoredDirection = []
    for place in names:
        attributes = datasets[place].attrs
        name = untrusted.plain(attributes["name"]) if "name" in attributes else None
        values = untrusted.numbers(datasets[place]).astype(np.float32)
        found.append((None if name is None else str(name)[:LONGEST], values))
    return found
