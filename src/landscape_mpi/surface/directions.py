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
            digest.update(header(group, name, values.shape))
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()


def header(group: str, name: str | None, shape: tuple[int, ...]) -> bytes:
    """Return what the bytes of a tensor follow in the SHA-256 of directions."""
    return f"{group}/{name}{shape}".encode()


def damaged(path: Path) -> UserError:
    """Return the error for directions whose SHA-256 is another than that beside them."""
    return UserError(
        "plane.path",
        f"{path} is damaged: its directions are not those that it was written with (directions_sha256 differs)",
        expected="a sound file",
    )


def _read(path: Path, axes: int) -> Directions:
    with untrusted.open_file(path) as file:
        attributes = untrusted.attributes(file)
        if "schema" in attributes:
            check_schema(path, attributes["schema"])
        recorded = attributes.get("directions_sha256")
        if recorded is not None:
            groups = {group: _direction(file, group) for group in GROUPS if group in file}
            if recorded != directions_sha256(groups):
                raise damaged(path)
        letters = LETTERS[:axes]
        return Directions(
            axes=tuple(_direction(file, f"{letter}direction") for letter in letters),
            buffers=tuple(_direction(file, f"{letter}buffers") for letter in letters) if "xbuffers" in file else (),
            fingerprints={name: str(text) for name, text in attributes.items() if name.endswith("_sha256")},
        )


def _direction(file: h5py.File, group: str) -> StoredDirection:
    return [
        (parameter_name(dataset), untrusted.numbers(dataset).astype(np.float32)) for dataset in members(file, group)
    ]


def members(file: h5py.File, group: str) -> list[h5py.Dataset]:
    """Return the tensors of a direction in their order.

    Raises:
        UserError: there are none, or a member is not stored in the file itself.
    """
    found = file.get(group)
    if found is None and "generator" in file.attrs and "xdirection" not in file:
        raise UserError(
            "plane.path",
            f"{file.filename} holds no directions, only what they are drawn by",
            remedy="draw them: python -m landscape_mpi export SURFACE --directions FILE",
        )
    if not isinstance(found, h5py.Group) or not isinstance(file.get(group, getlink=True), h5py.HardLink):
        raise UserError("plane.path", f"{file.filename} has no group `{group}`", expected="a direction or surface file")
    datasets = untrusted.datasets(found)
    names = [str(i) for i in range(len(datasets))]
    if not datasets or set(names) != set(datasets):
        raise UserError(
            "plane.path", f"{file.filename}: `{group}` holds {sorted(datasets)[:3]}", expected="`0`, `1`, ..."
        )
    return [datasets[name] for name in names]


def parameter_name(dataset: h5py.Dataset) -> str | None:
    """Return the name of the parameter that a tensor is of, where the file says it."""
    name = untrusted.plain(dataset.attrs["name"]) if "name" in dataset.attrs else None
    return None if name is None else str(name)[:LONGEST]
