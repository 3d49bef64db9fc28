"""Journals of sampled sweeps: what each rank's examples gave, in a file of its own beside the surface.

A journal is a file of records, as is the plan of plan.py. A record is its length, a checksum and its bytes. Once it is
appended it survives the death of the process. A killed process may leave a part of its last record, the torn tail.
Readers drop this tail, and it is cut off before anything is appended.
"""

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import Disk, in_words
from landscape_mpi.metrics.base import ACCURACY
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface.shards import Shard

IDENTITY = 32
"""Bytes that say which sweep a file belongs to: a SHA-256."""
FRAME = struct.Struct("<II")
"""Length and CRC-32 of what follows."""
HEAD = struct.Struct("<IHHQQ")
"""Point, split, whether there are hits and twice the number of other metrics, first example, number of examples."""
LENGTH = struct.Struct("<H")
"""Bytes of a metric's name."""
NAME = re.compile(r"(?:(range|theta|pilots)\.)?(shard-\d+-of-\d+\.)?rank-\d{5}\.journal")
Kind = Literal["", "range", "theta", "pilots"]
"""What a journal holds: slices of the rounds, or what precedes these, in the order of the data or in its own order."""
ANEW: tuple[Kind, ...] = ("range", "theta")
"""Journals that are begun again where journals of another sweep are there."""
THETA = 2**32 - 1
"""The number that stands for theta* in place of a point's number."""


@dataclass(frozen=True)
class Format:
    """The bytes that a file of records begins with, before the identity, and the test that its payloads pass."""

    magic: bytes
    sound: Callable[[bytes], bool]


class RecordFile:
    """A file of records, open for appending."""

    def __init__(self, path: Path, kind: Format, identity: bytes) -> None:
        """Open or begin it; its folder is made where it is absent.

        Raises:
            UserError: the file that is there belongs to another sweep, or the system refuses.
        """
        self._path = path
        with in_words(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = _end_of_records(path, kind, identity)
            # a link could lead to any file of the user's
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            os.ftruncate(self._file, kept)
            os.lseek(self._file, kept, os.SEEK_SET)
            if not kept:
                _write(self._file, kind.magic + identity)
            self._disk = Disk(path)

    def append(self, payload: bytes) -> None:
        """Add a record; once this returns it survives the death of any process.

        Raises:
            UserError: the system refuses, for example on a full disk; the next run cuts off the torn record.
        """
        with in_words(self._path):
            _write(self._file, FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
            self._disk.wrote()

    def close(self) -> None:
        """Hand everything to the disk and close.

        Raises:
            UserError: the disk did not take it.
        """
        with in_words(self._path):
            os.close(self._file)
            self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_records(path: Path, kind: Format, identity: bytes) -> Iterator[bytes]:
    """Yield the whole records of a file, up to the first that is torn or damaged; nothing where there is no file.

    Raises:
        UserError: the file belongs to another sweep.
    """
    if path.exists():
        yield from (payload for payload, _ in _records(path, kind, identity))


def _write(file: int, data: bytes) -> None:
    """Write all of it; a full disk raises, and leaves a torn tail."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _end_of_records(path: Path, kind: Format, identity: bytes) -> int:
    """Return where the whole records of a file end, in bytes; 0 where it has not begun.

    Raises:
        UserError: the file belongs to another sweep, or to somebody else.
    """
    opening = kind.magic + identity
    if not path.exists():
        return 0
    with path.open("rb") as file:
        begun = file.read(len(opening)).rstrip(b"\0")
    if not opening.startswith(begun):
        raise _other(path)
    if len(begun) < len(opening.rstrip(b"\0")):
        return 0
    return max((end for _, end in _records(path, kind, identity)), default=len(opening))


def _records(path: Path, kind: Format, identity: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record's bytes and where it ends, up to the first that is torn or damaged."""
    with path.open("rb") as file:
        opening = file.read(len(kind.magic) + IDENTITY)
        if len(opening) < len(kind.magic) + IDENTITY:
            return
        if opening != kind.magic + identity:
            raise _other(path)
        while len(frame := file.read(FRAME.size)) == FRAME.size:
            length, checksum = FRAME.unpack(frame)
            payload = file.read(length) if length <= path.stat().st_size else b""
            if len(payload) != length or zlib.crc32(payload) != checksum or not kind.sound(payload):
                return
            yield payload, file.tell()


def _other(path: Path) -> UserError:
    return UserError(
        path,
        "holds the losses of another sweep than the surface beside it",
        expected="those of the same job",
        remedy=f"Move the folder {path.parent} away: the sweep then evaluates its examples again",
    )


@dataclass(frozen=True)
class Evaluated:
    """What a slice of a split's examples gave at a point.

    Attributes:
        point: Number of the point in the grid, row by row.
        split: Number of the split.
        start: Place of the first example in the order in which examples are evaluated.
        found: What each example gave.
    """

    point: int
    split: int
    start: int
    found: PerExample

    def pack(self) -> bytes:
        """Return it as bytes: losses, hits one bit each, then every other metric under its name.

        Shares of tokens that are right are stored as numbers, as for any other metric.
        """
        found, (hits,) = self.found, ACCURACY.results
        others = {name: values for name, values in found.others.items() if name != hits.name or values.dtype != bool}
        known = (hits.name in found.others and hits.name not in others) + 2 * len(others)
        parts = [HEAD.pack(self.point, self.split, known, self.start, len(found)), _floats(found.losses)]
        if known % 2:
            parts.append(np.packbits(found.others[hits.name].astype(bool)).tobytes())
        for name, values in others.items():
            parts += [LENGTH.pack(len(name.encode())), name.encode(), _floats(values)]
        return b"".join(parts)

    @staticmethod
    def unpack(payload: bytes) -> "Evaluated":
        """Return it from bytes.

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


def _floats(values: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(values, "<f8").tobytes()


def is_evaluated(payload: bytes) -> bool:
    """Return whether bytes are as long as their head says."""
    try:
        Evaluated.unpack(payload)
    except ValueError:
        return False
    return True


JOURNAL = Format(b"landscape_mpi images 1\n", is_evaluated)


def journal_folder(surface: Path) -> Path:
    """Return the folder of a surface's journals: `surface.h5.examples`, or `surface.h5.images` where an old one is."""
    old = surface.with_name(surface.name + ".images")
    return old if old.is_dir() else surface.with_name(surface.name + ".examples")


def products_folder(surface: Path) -> Path:
    """Return the folder of the products of a surface's unfinished points: `surface.h5.products`."""
    return surface.with_name(f"{surface.name}.products")


class Journal(RecordFile):
    """A rank's journal, open for appending."""

    def __init__(
        self, folder: Path, rank: int, identity: bytes, shard: Shard | None = None, *, kind: Kind = ""
    ) -> None:
        """Open or begin the journal of a rank.

        Args:
            folder: Of the surface's journals; made where it is absent.
            rank: Which journal.
            identity: The 32 bytes of the sweep it belongs to.
            shard: Of the ranks; shards keep their journals in one folder.
            kind: What it holds.

        Raises:
            UserError: the journal that is there belongs to another sweep, and is of slices or pilots; other kinds are
                replaced, since a job may be changed before there is a surface.
        """
        path = folder / f"{_prefix(shard, kind)}rank-{rank:05}.journal"
        if kind in ANEW and path.exists():
            try:
                _end_of_records(path, JOURNAL, identity)
            except UserError:
                path.unlink()
        super().__init__(path, JOURNAL, identity)

    def add(self, evaluated: Evaluated) -> None:
        """Add a record; once this returns it survives the death of any process."""
        self.append(evaluated.pack())


def read_journals(folder: Path, identity: bytes, shard: Shard | None = None) -> Iterator[Evaluated]:
    """Yield the whole records of all ranks, or those of a shard, rank by rank; nothing where there is no folder.

    Raises:
        UserError: a journal belongs to another sweep.
    """
    for path in journals(folder, shard):
        yield from map(Evaluated.unpack, read_records(path, JOURNAL, identity))


def read_pilots(folder: Path, identity: bytes) -> Iterator[Evaluated]:
    """Yield what all ranks of all shards have kept of the pilots; nothing where there is no folder.

    Raises:
        UserError: a journal belongs to another sweep.
    """
    for path in journals(folder, kind="pilots"):
        yield from map(Evaluated.unpack, read_records(path, JOURNAL, identity))


def read_early(folder: Path, identity: bytes, kind: Kind) -> Iterator[Evaluated]:
    """Yield what all ranks of all shards have kept of a kind; journals of another sweep are skipped."""
    for path in journals(folder, kind=kind):
        with suppress(UserError):
            yield from map(Evaluated.unpack, read_records(path, JOURNAL, identity))


def discard_early(folder: Path, kind: Kind, shard: Shard | None = None) -> None:
    """Remove the journals of a kind, of all shards or of one, and the folder where nothing is left in it."""
    for path in journals(folder, shard, kind=kind):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def journals(folder: Path, shard: Shard | None = None, *, kind: Kind = "") -> list[Path]:
    """Return the journals of a kind, of all ranks of all shards or of the ranks of one."""
    files = folder.iterdir() if folder.is_dir() else ()
    found = ((path, NAME.fullmatch(path.name)) for path in files)
    right = (path for path, name in found if name and (name[1] or "") == kind)
    return sorted(path for path in right if path.name.startswith(_prefix(shard, kind)))


def _prefix(shard: Shard | None, kind: Kind) -> str:
    return f"{f'{kind}.' if kind else ''}{f'{shard.slug}.' if shard else ''}"
