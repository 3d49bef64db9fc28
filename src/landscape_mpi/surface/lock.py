"""One sweep a surface: an fcntl lock that the kernel releases when its holder dies."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from landscape_mpi.errors import UserError

PATIENCE = 20.0
"""Seconds to wait for the ranks of a killed sweep to be gone."""


@contextmanager
def lock_surface(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold `PATH.lock` for as long as the block runs.

    Host and process id in the file are for the message alone; a lock file without a living holder is free.

    Raises:
        UserError: another sweep holds it for longer than `patience` seconds.
    """
    place = path.with_name(f"{path.name}.lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+") as stream:
        _acquire(stream, path, time.monotonic() + patience)
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield


def _acquire(stream: IO[str], path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() > deadline:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise UserError(
                    f"{path}: {holder} is sweeping into it; wait for its end, or name another output.file."
                ) from None
            time.sleep(0.1)
