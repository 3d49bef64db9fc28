"""Appends what each image of a slice gave to a file of every rank's own beside the surface, and reads it back."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.files.records import Kind, RecordFile, read_records
from landscape_mpi.metrics.accuracy import ACCURACY
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface.shards import Shard

MAGIC = b"landscape_mpi images 1\n"
HEAD = struct.Struct("<IHHQQ")
"""Point, split, whether there are hits and twice the number of other metrics, first image and number of images."""
LENGTH = struct.Struct("<H")
"""Bytes of a metric's name."""
NAME = re.compile(r"(shard-\d+-of-\d+\.)?rank-\d{5}\.journal")


@dataclass(frozen=True)
class Evaluated:
    """What a slice of a split's images gave at a point.

    Attributes:
        point: Number of the point in the grid, row by row.
        split: Number of the split.
        start: Place of the first image in the order in which images are evaluated.
        found: What each image gave.
    """

    point: int
    split: int
    start: int
    found: PerExample


def journal_folder(surface: Path) -> Path:
    """Return the folder of a surface's journals: `surface.h5.images`."""
    return surface.with_name(surface.name + ".images")


class Journal(RecordFile):
    """A rank's journal, open for appending."""

    def __init__(self, folder: Path, rank: int, identity: bytes, shard: Shard | None = None) -> None:
        """Open or begin the journal of a rank.

        Args:
            folder: Of the surface's journals; made where it is absent.
            rank: Which journal.
            identity: The 32 bytes of the sweep it belongs to.
            shard: Of the ranks; shards keep their journals in one folder.

        Raises:
            UserError: the journal that is there belongs to another sweep.
        """
        super().__init__(folder / f"{_prefix(shard)}rank-{rank:05}.journal", KIND, identity)

    def add(self, evaluated: Evaluated) -> None:
        """Add a record; once this returns it survives the death of any process."""
        self.append(pack(evaluated))


def read_journals(folder: Path, identity: bytes, shard: Shard | None = None) -> Iterator[Evaluated]:
    """Yield the whole records of all ranks, or those of a shard, rank by rank; nothing where there is no folder.

    Raises:
        UserError: a journal belongs to another sweep.
    """
    for path in journals(folder, shard):
        for payload in read_records(path, KIND, identity):
            yield unpack(payload)


def journals(folder: Path, shard: Shard | None = None) -> list[Path]:
    """Return the journals of all ranks of all shards, or of the ranks of one."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in files if NAME.fullmatch(path.name) and path.name.startswith(_prefix(shard)))


def _prefix(shard: Shard | None) -> str:
    return f"{shard.slug}." if shard else ""


def pack(evaluated: Evaluated) -> bytes:
    """Return a slice's results as bytes: losses, hits one bit each, then every other metric under its name."""
    found, (hits,) = evaluated.found, ACCURACY.results
    others = {name: values for name, values in found.others.items() if name != hits.name}
    known = (hits.name in found.others) + 2 * len(others)
    parts = [HEAD.pack(evaluated.point, evaluated.split, known, evaluated.start, len(found)), _floats(found.losses)]
    if known % 2:
        parts.append(np.packbits(found.others[hits.name].astype(bool)).tobytes())
    for name, values in others.items():
        parts += [LENGTH.pack(len(name.encode())), name.encode(), _floats(values)]
    return b"".join(parts)


def _floats(values: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(values, "<f8").tobytes()


def unpack(payload: bytes) -> Evaluated:
    """Return a slice's results from sound bytes.

    Raises:
        ValueError: the bytes are not as long as they say.
    """
    if len(payload) < HEAD.size:
        raise ValueError("shorter than its head")
    point, split, known, start, count = HEAD.unpack_from(payload)
    end = HEAD.size

    def take(length: int) -> bytes:
        nonlocal end
        end += length
        if end > len(payload):
            raise ValueError("shorter than its head says")
        return payload[end - length : end]

    losses = np.frombuffer(take(8 * count), "<f8").astype(np.float64)
    others: dict[str, NDArray[np.generic]] = {}
    if known % 2:
        packed = np.frombuffer(take(-(-count // 8)), np.uint8)
        others[ACCURACY.results[0].name] = np.unpackbits(packed, count=count).astype(bool)
    for _ in range(known // 2):
        (length,) = LENGTH.unpack(take(LENGTH.size))
        name = take(length).decode()
        others[name] = np.frombuffer(take(8 * count), "<f8").astype(np.float64)
    if end < len(payload):
        raise ValueError("longer than its head says")
    return Evaluated(point, split, start, PerExample(losses, others))


def sound(payload: bytes) -> bool:
    """Whether bytes are as long as their head says."""
    try:
        unpack(payload)
    except ValueError:
        return False
    return True


KIND = Kind(MAGIC, sound)
