"""Reads directions out of direction files and surface files, and writes direction files.

Both are read and written in the form of tomgoldstein/loss-landscape: groups `xdirection`, `ydirection`, ... of tensors
called 0, 1, ...; writing takes one tensor after the other, a few of its rows at a time.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.isolated import isolated
from landscape_mpi.files.paths import check_target
from landscape_mpi.surface.schema import LETTERS, Rows, check_schema, tensor_header, write_groups

GROUPS = tuple(f"{letter}{what}" for letter in LETTERS for what in ("direction", "buffers"))
LONGEST = 1000
"""Characters of a parameter's name."""
ADVICE = "expected a place that can be written, with space for directions as large as the network in float32"
RECORDED = ("checkpoint_sha256", "generator", "seed", "normalize", "ignore", "only")
"""Attributes of a surface that a file of its directions has as well."""
PIECE = 1 << 20
"""Numbers that are copied at a time, or a row of a tensor where that is more."""
StoredDirection = list[tuple[str | None, NDArray[np.float32]]]


@dataclass(frozen=True)
class Directions:
    """What a direction or surface file holds of a plane.

    Attributes:
        axes: delta, eta, ...: as many as were asked for, each in the order of the file.
        buffers: how each direction moves the running statistics; empty where the file does not say.
        fingerprints: the SHA-256 of what a surface of ours was made from, by attribute; nothing in other files.
    """

    axes: tuple[StoredDirection, ...]
    buffers: tuple[StoredDirection, ...]
    fingerprints: Mapping[str, str]


def read_directions(path: Path, axes: int) -> Directions:
    """Return the first directions that a file holds, one per axis: names where the file has them, and float32 arrays.

    Raises:
        UserError: the file is missing, not HDF5 or damaged, a group is missing, or a member is not an array of numbers.
    """
    return isolated([path], _read, path, axes)


def _sha256(directions: Mapping[str, Sequence[tuple[str | None, NDArray[Any]]]]) -> str:
    """Return the SHA-256 of names, shapes and float32 bytes of directions, by group."""
    digest = hashlib.sha256()
    for group in sorted(directions):
        for name, values in directions[group]:
            digest.update(tensor_header(group, name, values.shape))
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()


def _damaged(path: Path) -> UserError:
    """Return the error for directions whose SHA-256 differs from the one beside them."""
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
            if recorded != _sha256(groups):
                raise _damaged(path)
        letters = LETTERS[:axes]
        return Directions(
            axes=tuple(_direction(file, f"{letter}direction") for letter in letters),
            buffers=tuple(_direction(file, f"{letter}buffers") for letter in letters) if "xbuffers" in file else (),
            fingerprints={name: str(text) for name, text in attributes.items() if name.endswith("_sha256")},
        )


def _direction(file: h5py.File, group: str) -> StoredDirection:
    return [
        (_parameter_name(dataset), untrusted.numbers(dataset).astype(np.float32)) for dataset in _members(file, group)
    ]


def _members(file: h5py.File, group: str) -> list[h5py.Dataset]:
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


def _parameter_name(dataset: h5py.Dataset) -> str | None:
    """Return the name of the parameter that a tensor is of, where the file says it."""
    name = untrusted.plain(dataset.attrs["name"]) if "name" in dataset.attrs else None
    return None if name is None else str(name)[:LONGEST]


def check_direction_target(source: Path, target: Path) -> None:
    """Refuse a place where no direction file can be, or the file that is read.

    Raises:
        UserError: the target is such a place or file.
    """
    check_target(target, Flag("directions"))
    if target.exists() and source.exists() and target.samefile(source):
        raise UserError(target, "is the file to read as well", expected="the name of another file")


def write_directions(
    target: Path, groups: Mapping[str, Iterable[Rows]], attributes: Mapping[str, str | int | float]
) -> None:
    """Write a direction file; a file there is replaced, once the new one is whole.

    Args:
        target: its path.
        groups: the tensors of `xdirection`, `ydirection`, ... in the order of `named_parameters()`.
        attributes: of the root.

    Raises:
        UserError: the target cannot be written.
    """
    with in_words(target, ADVICE), atomic_write(target) as aside, OwnFile(aside, "w") as file:
        file.attrs.update({**attributes, "directions_sha256": write_groups(file, groups)})


def copy_directions(source: Path, target: Path) -> bool:
    """Write the directions that a surface or direction file holds into a direction file; False where it holds none.

    Raises:
        UserError: the source is no such file or damaged, or the target cannot be written.
    """
    if not isolated([source], _holds_directions, source):
        return False
    with in_words(target, ADVICE), atomic_write(target) as aside:
        isolated([source], _copy, source, aside)
    return True


def _holds_directions(source: Path) -> bool:
    with untrusted.open_file(source) as file:
        return "xdirection" in file


def _copy(source: Path, aside: Path) -> None:
    """Copy in a process of its own, which reads what somebody else may have written.

    Raises:
        OSError: the system refused to write.
    """
    copy = OwnFile(aside, "w")
    with untrusted.open_file(source) as file:
        attributes = untrusted.attributes(file)
        kept = {name: attributes[name] for name in RECORDED if name in attributes}
        groups = {group: map(_stored, _members(file, group)) for group in GROUPS if group in file}
        found = write_groups(copy.hdf5, groups)
        if attributes.get("directions_sha256") not in (None, found):
            raise _damaged(source)
        copy.hdf5.attrs.update({**kept, "directions_sha256": found})
    copy.close()  # where the disk is full this says so, and the file that is read is sound


def _stored(dataset: h5py.Dataset) -> Rows:
    if not untrusted.is_number(dataset) or dataset.shape is None:
        untrusted.numbers(dataset)  # raises
    name = _parameter_name(dataset)
    # the name in a file of others may hold half a character, which cannot be written
    text = None if name is None else name.encode(errors="backslashreplace").decode()
    return Rows(text, dataset.shape, _pieces(dataset))


def _pieces(dataset: h5py.Dataset) -> Iterator[NDArray[np.float32]]:
    if not dataset.shape or not dataset.size:
        yield np.asarray(dataset[()], np.float32)
        return
    step = max(PIECE * len(dataset) // dataset.size, 1)
    for first in range(0, len(dataset), step):
        yield np.asarray(dataset[first : first + step], np.float32)
