"""Appends records with checksums to a file, and reads those that are whole.

A record is its length, a checksum and its bytes. Once `append` returns it survives the death of the process. What a
killed process left of its last record, the torn tail, is dropped by readers and cut off before anything is appended.
"""

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import Disk, in_words

IDENTITY = 32
"""Bytes that say which sweep a file belongs to: a SHA-256."""
FRAME = struct.Struct("<II")
"""Length and CRC-32 of what follows."""


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
            UserError: the system refuses, as a full disk does; what is torn by that is cut off by the next run.
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
