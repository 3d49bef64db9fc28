"""Locks a file for one writer: an fcntl lock that the kernel releases when its holder dies."""

import fcntl
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from landscape_mpi.errors import Key, Text, UserError
from landscape_mpi.files.atomic import in_words

PATIENCE = 20.0
"""Seconds to wait for the ranks of a killed sweep to be gone."""
OURS = re.compile(rb"(process \d+ on \S+\n)?")
"""What a lock holds: nothing yet, or who holds it or held it last."""
LONGEST = 400
"""Bytes; more than any of them has."""
Busy = tuple[str, Text]
"""What the holder of a lock is doing, and what to do about that."""
SWEEPING: Busy = ("is sweeping into it", ("wait for its end, or name another ", Key("output.file")))


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
        if os.fstat(stream.fileno()).st_nlink == 1:  # under its other name it may be anything
            with suppress(OSError):  # a full disk keeps nobody from holding a lock
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
    if not (regular and OURS.fullmatch(os.pread(file, LONGEST, 0))):
        os.close(file)
        raise UserError(
            place,
            "is no lock of ours, and a sweep writes its lock there",
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
