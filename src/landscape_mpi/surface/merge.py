"""Merges shards into one surface: copies the points that are done, of any number of shards in any order."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.atomic import atomic_write, in_words, lock_surface
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.isolated import isolated
from landscape_mpi.files.paths import check_place
from landscape_mpi.metrics.registry import WITHIN, axes_of, in_schema, is_count
from landscape_mpi.surface.identity import check_same_as, check_whole, job_of
from landscape_mpi.surface.platforms import BY, NOBODY, differences, numbers_of, read_platforms
from landscape_mpi.surface.read import Surface, read_results, read_surface
from landscape_mpi.surface.schema import DONE, FAILED, LETTERS, NOT_YET
from landscape_mpi.surface.shards import SLUG, recorded_shard
from landscape_mpi.surface.status import LAST_DIGITS, known_platforms, without_numbers
from landscape_mpi.surface.write import write_end

SHARED = {*(f"{letter}coordinates" for letter in LETTERS), "audit", *WITHIN}
"""Arrays that may have the shape of the grid and are no results."""


@dataclass(frozen=True)
class Merged:
    """The result of a merge: the surface, how many points are new in it, and notes about the shards."""

    surface: Surface
    new: int
    notes: tuple[str, ...] = ()


def merge(path: Path, shards: Sequence[Path]) -> Merged:
    """Put shards together into the surface at `path`, in addition to what it already holds.

    The surface is written under another name and then renamed: the file is always the old or the new one, never a part.

    Raises:
        UserError: `path` is a shard, a shard is missing, damaged or of another experiment, or the surface cannot be
            written.
    """
    if SLUG.search(path.name):  # where the target was forgotten, the first shard would be taken as the target
        raise _is_shard(path)
    parts = [read_surface(shard) for shard in shards]
    check_place(path)
    with lock_surface(path):
        there = [read_surface(path)] if path.exists() else []
        if there and recorded_shard(there[0].attributes.get("shard")):
            raise _is_shard(path)
        first, *others = [*there, *parts]
        for surface in (first, *others):
            check_whole(surface, job_of(surface).values)
        for other in others:
            check_same_as(first, other)
        before = there[0].done if there else 0
        if not (there and there[0].complete):
            others_of = [surface.path for surface in others]
            with (
                in_words(path, "nothing was touched; expected a folder with space for one more surface"),
                atomic_write(path) as aside,
            ):
                isolated([first.path, *others_of], _fill, aside, first.path, others_of)
        surface = read_surface(path)
    notes = [f"{part.path}: {without_numbers(part.unsound)}" for part in (first, *others) if part.unsound]
    if found := differences(one for part in (first, *others) for one in known_platforms(part)):
        notes.append(f"{path}: its points were not computed alike ({found}): {LAST_DIGITS}")
    return Merged(surface, surface.done - before, tuple(notes))


def overlaid(shards: Sequence[Surface]) -> Surface:
    """Return what shards of one sweep hold together, as a surface in memory; the first shard says where it comes from.

    Raises:
        UserError: they are of different sweeps.
    """
    first, *others = shards
    status = first.status.copy()
    metrics, arrays = dict(first.metrics), dict(first.arrays)
    for other in others:
        check_same_as(first, other)
        new = (other.status == DONE) & (status != DONE)
        for kept, theirs in ((metrics, other.metrics), (arrays, other.arrays)):
            for name in kept.keys() & theirs.keys():
                where = new.reshape(new.shape + (1,) * (kept[name].ndim - new.ndim))
                kept[name] = np.where(where, theirs[name], kept[name])
        status = np.where(new | ((other.status == FAILED) & (status == NOT_YET)), other.status, status)
    attributes = {name: value for name, value in first.attributes.items() if name != "shard"}
    return replace(first, metrics=metrics, arrays=arrays, status=status, attributes=attributes, sealed=False)


def _is_shard(path: Path) -> UserError:
    return UserError(
        "merge",
        f"{path} is a shard, and the first name is that of the surface to put shards into",
        expected=f"e.g. merge {SLUG.sub('', path.name) or 's.h5'} SHARD...; nothing was touched",
    )


def _fill(aside: Path, base: Path, others: Sequence[Path]) -> None:
    """Write the points of all files into a copy of the first one; runs within `isolated`."""
    shutil.copyfile(base, aside)
    with OwnFile(aside, "r+") as file:
        # its sweep may have written while it was copied, so that the copy has a status without its values
        for name, values in _arrays(base)[0].items():
            file[name][...] = values
        for other in others:
            arrays, texts = _arrays(other)
            if BY in arrays and BY in file:
                numbers = np.full(256, NOBODY, np.uint8)
                numbers[: len(texts)] = numbers_of(file, texts)
                arrays[BY] = numbers[arrays[BY]]
            # the points that are done or failed in the shard, and not done in the surface
            status, theirs, schema = file["status"][()], arrays["status"], int(file.attrs["schema"])
            where = (status != DONE) & ((theirs == DONE) | (theirs == FAILED))
            for name, values in ((in_schema(name, schema), values) for name, values in arrays.items()):
                if name in file and file[name].shape == values.shape and file[name].dtype == values.dtype:
                    mine = file[name][()]
                    mine[where] = values[where]
                    file[name][...] = mine
        # the result is no shard any more; it is complete where every point is done and nothing is left to refine
        if (shard := recorded_shard(file.attrs.get("shard"))) is not None:
            file.attrs["shards"] = shard.count
            del file.attrs["shard"]
        file["complete"][()] = np.uint8(0)
        if bool((file["status"][()] == DONE).all()) and not any(map(is_count, file)):
            write_end(file)


def _arrays(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return a shard's arrays over the points of the grid, and its platforms; its sweep may be writing the arrays.

    A point has values only where it was done before any of them was read; a failed point keeps the text of its error.
    """
    with untrusted.open_file(path) as source:
        found = untrusted.datasets(source)
        shape = found["status"].shape
        _, status, _ = read_results(found, shape)
        own = {name: (*shape, *one.shape[len(shape) :]) if axes_of(name) else shape for name, one in found.items()}
        arrays = {name: one[()] for name, one in found.items() if one.shape == own[name] and name not in SHARED}
        if platforms := read_platforms(source, shape):
            arrays[BY] = platforms.numbers
    blank = {"error": b"", "rank": -1, BY: NOBODY}  # every other array gets what a new surface holds of a point
    for name, values in arrays.items():
        nothing = blank.get(name, np.nan if values.dtype.kind == "f" else values.dtype.type())
        values[status == NOT_YET if name == "error" else status != DONE] = nothing
    return {**arrays, "status": status}, platforms.texts if platforms else []
