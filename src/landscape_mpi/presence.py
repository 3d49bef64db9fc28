"""Who is still there: every rank locks a byte of one small file, and the kernel lets go of it at the rank's death."""

import fcntl
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from landscape_mpi.errors import UserError

STALE = 10.0
"""Seconds after which a file that nobody holds is a left-over: between its making and the first lock pass a few ms."""

LONGEST = 1000
"""Bytes of a note."""


@dataclass(frozen=True)
class Place:
    """A file for the locks, and where rank 0 was when it died in earlier runs, in words."""

    path: Path
    blamed: frozenset[str]


def make_place(surface: Path) -> Place:
    """Return a new empty file, named after a surface, in the nearest folder that exists; left-overs of it go.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = next(place for place in surface.absolute().parents if place.is_dir())
    prefix = f".{surface.name}.ranks-"
    blamed = frozenset(text for old in folder.glob(f"{prefix}*") if (text := _clear(old)))
    try:
        file, name = mkstemp(prefix=prefix, dir=folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another place in output.file.") from None
    os.close(file)
    return Place(Path(name), blamed)


def _clear(old: Path) -> str:
    """Remove a file that nobody holds and return what rank 0 noted last."""
    with suppress(OSError):
        file = os.open(old, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(file) as stream:
            text = stream.read(LONGEST)
            if not _held(file, 0, 0) and (text or time.time() - os.fstat(file).st_mtime > STALE):
                old.unlink()
                return text
    return ""


class Presence:
    """This rank's view of all ranks. Only this object may open the file here: closing it anywhere drops the lock."""

    def __init__(self, place: Path, rank: int | None) -> None:
        """Lock the byte of a rank; of none where `rank` is None, to look on.

        Raises:
            UserError: there can be no lock here.
        """
        self._file = os.open(place, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        if rank is None:
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, rank)
        except OSError as error:
            raise UserError(
                f"{place}: cannot be locked ({error.strerror}); expected a file system with locks, as Lustre is where "
                "it is mounted with -o flock."
            ) from None

    def note(self, text: str) -> None:
        """Leave word of where this rank is, in case it dies there."""
        raw = text.encode()[:LONGEST]
        os.pwrite(self._file, raw, 0)
        os.ftruncate(self._file, len(raw))

    def gone(self, rank: int) -> bool:
        """Whether another rank, which was there, is no more."""
        return not _held(self._file, 1, rank)


def _held(file: int, length: int, start: int) -> bool:
    """Whether another process holds some of the bytes; a shared lock, so that two who look do not see each other."""
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return True
    fcntl.lockf(file, fcntl.LOCK_UN, length, start)
    return False
