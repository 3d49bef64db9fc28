"""Per-image losses of slices, appended by every rank to a file of its own beside the surface; knows no HDF5.

A record is its length, a checksum and its bytes. Once `append` returns it survives the death of the process. What a
killed rank left of its last record, the torn tail, is dropped by readers and cut off before anything is appended.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError

MAGIC = b"landscape_mpi images 1\n"
IDENTITY = 32
"""Bytes that say which sweep a journal belongs to: a SHA-256."""
FRAME = struct.Struct("<II")
"""Length and CRC-32 of what follows."""
HEAD = struct.Struct("<IHHQQ")
"""Point, split, whether there are hits, first image and number of images."""
NAME = re.compile(r"rank-\d{5}\.journal")


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


class Journal:
    """A rank's journal, open for appending."""

    def __init__(self, folder: Path, rank: int, identity: bytes) -> None:
        """Open or begin the journal of a rank.

        Args:
            folder: Of the surface's journals; made where it is absent.
            rank: Which journal.
            identity: The 32 bytes of the sweep it belongs to.

        Raises:
            UserError: the journal that is there belongs to another sweep.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rank-{rank:05}.journal"
        kept = _end_of_records(path, identity)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        os.ftruncate(self._file, kept)
        os.lseek(self._file, kept, os.SEEK_SET)
        if not kept:
            _write(self._file, MAGIC + identity)

    def append(self, evaluated: Evaluated) -> None:
        """Add a record; once this returns it survives the death of any process."""
        payload = _pack(evaluated)
        _write(self._file, FRAME.pack(len(payload), zlib.crc32(payload)) + payload)

    def close(self) -> None:
        """Hand everything to the disk and close."""
        os.fsync(self._file)
        os.close(self._file)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journals(folder: Path, identity: bytes) -> Iterator[Evaluated]:
    """Yield the whole records of all ranks, rank by rank; nothing where there is no folder.

    Raises:
        UserError: a journal belongs to another sweep.
    """
    paths = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)) if folder.is_dir() else []
    for path in paths:
        for payload, _ in _records(path, identity):
            yield _unpack(payload)


def _write(file: int, data: bytes) -> None:
    """Write all of it; a full disk raises, and leaves a torn tail."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _pack(evaluated: Evaluated) -> bytes:
    hits = b"" if evaluated.hits is None else np.packbits(evaluated.hits).tobytes()
    count, known = len(evaluated.losses), evaluated.hits is not None
    head = HEAD.pack(evaluated.point, evaluated.split, known, evaluated.start, count)
    return head + np.ascontiguousarray(evaluated.losses, "<f8").tobytes() + hits


def _unpack(payload: bytes) -> Evaluated:
    point, split, known, start, count = HEAD.unpack_from(payload)
    losses = np.frombuffer(payload, "<f8", count, HEAD.size).astype(np.float64)
    packed = np.frombuffer(payload, np.uint8, offset=HEAD.size + 8 * count)
    return Evaluated(point, split, start, losses, np.unpackbits(packed, count=count).astype(bool) if known else None)


def _end_of_records(path: Path, identity: bytes) -> int:
    """Return where the whole records of a journal end, in bytes; 0 where it has not begun."""
    if not path.exists() or path.stat().st_size < len(MAGIC) + IDENTITY:
        return 0
    return max((end for _, end in _records(path, identity)), default=len(MAGIC) + IDENTITY)


def _records(path: Path, identity: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record's bytes and where it ends, up to the first that is torn or damaged."""
    with path.open("rb") as file:
        opening = file.read(len(MAGIC) + IDENTITY)
        if len(opening) < len(MAGIC) + IDENTITY:
            return
        _check_identity(path, opening, identity)
        while len(frame := file.read(FRAME.size)) == FRAME.size:
            length, checksum = FRAME.unpack(frame)
            payload = file.read(length) if length <= path.stat().st_size else b""
            if len(payload) != length or zlib.crc32(payload) != checksum or not _whole(payload):
                return
            yield payload, file.tell()


def _whole(payload: bytes) -> bool:
    """Whether a record's length is what its head says."""
    if len(payload) < HEAD.size:
        return False
    known, count = _sizes(payload)
    return len(payload) == HEAD.size + 8 * count + (-(-count // 8) if known else 0)


def _sizes(payload: bytes) -> tuple[bool, int]:
    _, _, known, _, count = HEAD.unpack_from(payload)
    return bool(known), int(count)


def _check_identity(path: Path, opening: bytes, identity: bytes) -> None:
    if opening != MAGIC + identity:
        raise UserError(
            f"{path}: holds the losses of another sweep than the surface beside it; expected those of the same job. "
            f"Move the folder {path.parent} away: the sweep then evaluates its images again."
        )
