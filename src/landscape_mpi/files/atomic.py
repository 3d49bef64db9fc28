"""Writes files whole or not at all, durably and by one writer at a time, and turns errors of the system into messages.

The lock of a writer is an fcntl lock that the kernel releases when its holder dies.
"""

import ctypes
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

from landscape_mpi.errors import Key, Text, UserError

EVERY = 30.0
"""Seconds between two flushes of a rank to the disk: a power cut costs it no more work than that."""
HAND_OVER: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""The cheaper of the two calls, where the system has it."""
LONGEST_NAME, LONGEST_ENDING = 48, 8
"""Characters of a file's name, and of its ending, in its temporary name, which may have 255 bytes."""
TOKEN = re.compile(r"[0-9a-f]{8}(\.|$)")
HDF5_CODE = re.compile(r"errno = (\d+)")
"""How HDF5 reports the number of the system's error."""
GO_ON = "what it holds by now is kept: remove the cause, for example by freeing space, and run the same command again"
PATIENCE = 20.0
"""Seconds to wait for the ranks of a killed sweep to be gone."""
LOCK = re.compile(rb"(process \d+ on \S+\n)?")
"""What a lock holds: nothing yet, or who holds it or held it last."""
LONGEST_LOCK = 400
"""Bytes; more than any lock of ours has."""
Busy = tuple[str, Text]
"""What the holder of a lock is doing, and what to do about that."""
SWEEPING: Busy = ("is sweeping into it", ("wait for its end, or name another ", Key("output.file")))


@contextmanager
def atomic_write(path: Path, replace: bool = True) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to: renamed to `path` at the end of the block, removed if it raises.

    The file exists already, empty, under a new name: no link is followed, no other file is emptied, and two writers of
    one path write two files. Files that killed writers of `path` left behind are removed.

    Args:
        path: what is written; its folder exists.
        replace: whether a file that is there by the end of the block is replaced; else it stays, and the new one is
            removed.

    Raises:
        OSError: the file system could not do it.
    """
    aside, file = _temporary(path)
    try:
        _remove_left_overs(path)
        yield aside
        make_durable(aside)
        if replace:
            aside.replace(path)
        else:
            try:
                path.hardlink_to(aside)
            except FileExistsError:  # another writer was sooner
                pass
            except OSError:  # a file system without links
                aside.replace(path)
        with suppress(PermissionError):  # a folder that may be written and not read
            make_durable(path.parent)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        with suppress(OSError):
            os.close(file)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill: renamed to `path` at the end of the block, removed if it raises.

    A folder that is already at `path` is exchanged for it in one step, where the system can do that, and removed.
    Folders that killed writers of `path` left behind are removed.

    Raises:
        OSError: the file system could not do it.
    """
    aside, folder = _temporary_folder(path)
    try:
        _remove_left_overs(path)
        yield aside
        for place in (*aside.rglob("*"), aside):
            make_durable(place)
        if not path.exists():
            aside.rename(path)
        elif not _exchange(aside, path):
            old = aside.with_name(f"{aside.name}-old")
            path.rename(old)
            aside.rename(path)
            old.rename(aside)
        with suppress(PermissionError):
            make_durable(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            os.close(folder)


def _temporary_folder(path: Path) -> tuple[Path, int]:
    """Make a new folder beside `path`, locked for as long as its writer lives; return its place and descriptor."""
    while True:
        aside = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")
        aside.mkdir()
        with suppress(FileNotFoundError):
            folder = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # a file system without locks: left-overs stay there
                fcntl.flock(folder, fcntl.LOCK_EX)
            if aside.exists():
                return aside, folder
            os.close(folder)  # another writer took it for a left-over before it was locked


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; return whether the system could: Linux, on most file systems."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return rename is not None and not rename(here, os.fsencode(one), here, os.fsencode(other), swap)


def _temporary(path: Path) -> tuple[Path, int]:
    """Make a new file beside `path`, locked for as long as its writer lives; return its place and descriptor."""
    # the ending stays: it tells other programs the format
    ending = path.suffix if len(path.suffix) <= LONGEST_ENDING else ""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        aside = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}{ending}")
        with suppress(FileExistsError):
            file = os.open(aside, flags, 0o666)
            with suppress(OSError):  # a file system without locks: left-overs stay there
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return aside, file
            os.close(file)  # another writer took it for a left-over before it was locked


def _prefix(path: Path) -> str:
    return f".{path.name[:LONGEST_NAME]}.writing-"


def _remove_left_overs(path: Path) -> None:
    """Remove what killed writers of `path` have left: what belongs to this user and no process holds any more."""
    begin = _prefix(path)
    with suppress(OSError):
        for aside in path.parent.iterdir():
            if not (aside.name.startswith(begin) and TOKEN.match(aside.name, len(begin))):
                continue
            with suppress(OSError):
                file = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    found = os.fstat(file)
                    folder = stat.S_ISDIR(found.st_mode)
                    if (folder or stat.S_ISREG(found.st_mode)) and found.st_uid == os.geteuid():
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(aside) if folder else aside.unlink()
                finally:
                    os.close(file)


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


class Disk:
    """Flushes a file to its disk (fdatasync), at most every 30 seconds, so that it costs next to nothing."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Open the file once more, for this alone.

        Args:
            path: a file that exists.
            clock: the time in seconds.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._clock, self._last = clock, clock()

    def wrote(self) -> None:
        """Flush the file if that was last done 30 seconds ago or longer; call this after a write.

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
        """Flush the rest, and close the descriptor."""
        try:
            self.hand_over()
        finally:
            os.close(self._file)


@contextmanager
def in_words(path: Path, advice: Text = GO_ON) -> Iterator[None]:
    """Turn an error of the system while writing into a UserError.

    Args:
        path: what is written.
        advice: what to do, or what was expected.

    Raises:
        UserError: the system refused.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise UserError(path, f"cannot be written ({reason(error)})", remedy=advice) from error


def reason(error: Exception) -> str:
    """Return the system's message, such as `No space left on device`, from an exception of Python or HDF5."""
    found = HDF5_CODE.search(str(error))
    code = error.errno if isinstance(error, OSError) and error.errno else int(found[1]) if found else 0
    return os.strerror(code) if code else " ".join(str(error).split())


class HeldFile:
    """An open descriptor of a file that is written for hours: its contents stay, whatever becomes of its name."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path` once more.

        Raises:
            OSError: there is none.
        """
        self._path = path
        self._file: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def name_lost(self) -> bool:
        """Whether the file was removed, moved or replaced: its name leads nowhere, or to another file."""
        if self._file is None:
            return False
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # nobody knows
            return False
        return not os.path.samestat(there, os.fstat(self._file))

    def save_if_lost(self) -> None:
        """Save a copy of a file that has lost its name; nobody may write into it any more.

        Raises:
            UserError: it had lost its name; the text says where the copy is.
        """
        if not self.name_lost or self._file is None:
            return
        file, self._file = self._file, None
        lost = "was removed, moved or replaced while it was written"
        try:
            saved = self._save(file)
        except OSError as error:
            raise UserError(
                self._path,
                f"{lost}, and what it holds could not be saved ({reason(error)})",
                remedy="leave the file alone until a sweep has ended, and run the same command again",
            ) from error
        finally:
            os.close(file)
        first = "" if saved == self._path else f"give it the name {self._path.name} and "
        raise UserError(
            self._path, lost, remedy=f"what it holds was saved as {saved}: {first}run the same command again to go on"
        )

    def _save(self, file: int) -> Path:
        """Copy an open file to its own name, or to the next one that is free, and return that."""
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        place, numbers = path, count(1)
        while os.path.lexists(place):
            place = path.with_name(f"{path.stem}.saved-{next(numbers)}{path.suffix}")
        with atomic_write(place) as aside, aside.open("wb") as target, os.fdopen(os.dup(file), "rb") as source:
            source.seek(0)
            shutil.copyfileobj(source, target)
        return place

    def close(self) -> None:
        """Save a copy where the name was lost, as `save_if_lost`, and close the descriptor."""
        try:
            self.save_if_lost()
        finally:
            if self._file is not None:
                os.close(self._file)
                self._file = None


def lock_path(path: Path) -> Path:
    """Return where the lock of a file is: one lock, whatever link leads to the file."""
    real = path.resolve() if path.exists() else path
    return real.with_name(f"{real.name}.lock")


@contextmanager
def lock_surface(path: Path, patience: float = PATIENCE, busy: Busy = SWEEPING) -> Iterator[None]:
    """Hold `PATH.lock` for as long as the block runs.

    Host and process id in the file are for the message alone; a lock file without a living holder is free.

    Args:
        path: a surface, or another file that only one process may write.
        patience: seconds to wait for another holder's end.
        busy: what that holder does, and the remedy.

    Raises:
        UserError: another process holds it for longer than `patience` seconds, or there can be no lock here.
    """
    place = lock_path(path)
    stream = _opened(place)
    try:
        with in_words(place, "expected a file system with locks, as Lustre is where it is mounted with -o flock"):
            _acquire(stream, path, time.monotonic() + patience, busy)
        if os.fstat(stream.fileno()).st_nlink == 1:  # a file that has a second name may be anything
            with suppress(OSError):  # a full disk does not prevent a lock
                stream.truncate(0)
                os.write(stream.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        with suppress(OSError):  # an error of a network file system about the text in it does no harm
            stream.close()


def _opened(place: Path) -> IO[str]:
    with in_words(place, "expected a folder that can be written"):
        place.parent.mkdir(parents=True, exist_ok=True)
        # a link could lead to any file of the user's, and what is locked is emptied
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(place, flags, 0o666)
    regular = stat.S_ISREG(os.fstat(file).st_mode)
    if not (regular and LOCK.fullmatch(os.pread(file, LONGEST_LOCK, 0))):
        os.close(file)
        raise UserError(
            place,
            "is not a lock file of landscape_mpi, and a sweep writes its lock there",
            remedy="it was left alone: name another output, or move that file away",
        )
    return os.fdopen(file, "a+")


def _acquire(stream: IO[str], path: Path, deadline: float, busy: Busy) -> None:
    while True:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise UserError(path, f"{holder} {busy[0]}", remedy=busy[1]) from None
            time.sleep(0.1)
