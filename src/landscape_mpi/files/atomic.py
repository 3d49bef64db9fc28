"""Files that are whole or not there, and bytes that survive a power cut; knows nothing of what they mean."""

import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EVERY = 30.0
"""Seconds between two times that a rank hands over to the disk: a power cut costs it no more work than that."""
HAND_OVER: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Not every system has the cheaper one."""
LONGEST_NAME, LONGEST_ENDING = 48, 8
"""Characters of a file's name, and of its ending, in the name of the file that becomes it: 255 bytes have to do."""
TOKEN = re.compile(r"[0-9a-f]{8}(\.|$)")


class Disk:
    """Where a file ends up: hands over what was written to it, seldom enough to cost next to nothing."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file once more, for this alone.

        Args:
            path: a file that exists.
            clock: the time in seconds.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._clock, self._last = clock, clock()

    def wrote(self) -> None:
        """Hear of a write; hand everything over where that was last done 30 seconds ago or longer.

        Raises:
            OSError: the disk did not take it.
        """
        if self._clock() - self._last >= EVERY:
            self.hand_over()

    def hand_over(self) -> None:
        """Wait until all that was written is on the disk.

        Raises:
            OSError: the disk did not take it.
        """
        HAND_OVER(self._file)
        self._last = self._clock()

    def close(self) -> None:
        """Hand over the rest."""
        try:
            self.hand_over()
        finally:
            os.close(self._file)


def make_durable(path: Path) -> None:
    """Wait until what was written to a file, or renamed in a folder, is on its disk.

    Raises:
        OSError: the file system could not do it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give the place of a new file beside `path`; it becomes `path` once it is whole, and is gone where it does not.

    The file is there already, empty and under a name that nobody has used: no link is followed, nothing of anybody
    else's is emptied, and two writers of one path each have their own. What killed writers of `path` left is removed.

    Args:
        path: what is written, or replaced; its folder exists.

    Raises:
        OSError: the file system could not do it.
    """
    aside, file = _begin(path)
    try:
        _remove_left_overs(path)
        yield aside
        make_durable(aside)
        aside.replace(path)
        with suppress(PermissionError):  # a folder that may be written and not read
            make_durable(path.parent)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(file)


def _begin(path: Path) -> tuple[Path, int]:
    """Make a new file beside `path`, locked for as long as its writer lives; return its place and descriptor."""
    # the ending stays: it tells other programs the format
    ending = path.suffix if len(path.suffix) <= LONGEST_ENDING else ""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        aside = path.with_name(f"{_mark(path)}{secrets.token_hex(4)}{ending}")
        with suppress(FileExistsError):
            file = os.open(aside, flags, 0o666)
            with suppress(OSError):  # a file system without locks: left-overs stay there
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return aside, file
            os.close(file)  # taken for a left-over before it was locked


def _mark(path: Path) -> str:
    return f".{path.name[:LONGEST_NAME]}.writing-"


def _remove_left_overs(path: Path) -> None:
    """Remove what writers of `path` that were killed have left: files of this user that nobody holds any more."""
    with suppress(OSError):
        for found in path.parent.iterdir():
            if found.name.startswith(_mark(path)) and TOKEN.match(found.name, len(_mark(path))):
                _remove_if_left(found)


def _remove_if_left(aside: Path) -> None:
    with suppress(OSError):
        file = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                aside.unlink()
        finally:
            os.close(file)
