"""Per-image losses of slices, appended by every rank to a file of its own beside the surface; knows no HDF5."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.files.records import Kind, RecordFile, read_records
from landscape_mpi.surface.shards import Shard

MAGIC = b"landscape_mpi images 1\n"
HEAD = struct.Struct("<IHHQQ")
"""Point, split, whether there are hits, first image and number of images."""
NAME = re.compile(r"(shard-\d+-of-\d+\.)?rank-\d{5}\.journal")


@dataclass(frozen=True)
class Evaluated:
    """What a slice of a split's images gave at a point.

    Attributes:
        point: Number of the point in the grid, row by row.
        split: Number of the split.
        start: Place of the first image in the order in which images are evaluated.
        losses: Per image, float64 [n].
        hits: Per image, bool [n]; None where targets are no classes.
    """

    point: int
    split: int
    start: int
    losses: NDArray[np.float64]
    hits: NDArray[np.bool_] | None


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
    """Return a slice's results as bytes."""
    hits = b"" if evaluated.hits is None else np.packbits(evaluated.hits).tobytes()
    count, known = len(evaluated.losses), evaluated.hits is not None
    head = HEAD.pack(evaluated.point, evaluated.split, known, evaluated.start, count)
    return head + np.ascontiguousarray(evaluated.losses, "<f8").tobytes() + hits


def unpack(payload: bytes) -> Evaluated:
    """Return a slice's results from sound bytes."""
    point, split, known, start, count = HEAD.unpack_from(payload)
    losses = np.frombuffer(payload, "<f8", count, HEAD.size).astype(np.float64)
    packed = np.frombuffer(payload, np.uint8, offset=HEAD.size + 8 * count)
    return Evaluated(point, split, start, losses, np.unpackbits(packed, count=count).astype(bool) if known else None)


def sound(payload: bytes) -> bool:
    """Whether bytes are as long as their head says."""
    if len(payload) < HEAD.size:
        return False
    _, _, known, _, count = HEAD.unpack_from(payload)
    return bool(len(payload) == HEAD.size + 8 * count + (-(-count // 8) if known else 0))


KIND = Kind(MAGIC, sound)
