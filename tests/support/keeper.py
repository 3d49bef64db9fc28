"""Ends what tests started once they are gone, even by kill -9; knows processes by their environment and their files.

    python keeper.py MARK FOLDER

waits for the end of its standard input, which the tests hold open. Then it kills every process that has MARK in its
environment or a file in FOLDER open, and removes FOLDER.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def marked(mark: str) -> list[int]:
    """The living processes with this `NAME=VALUE` in their environment, or named so: zombies have neither.

    A fork of `forks.py` has its variables from there on, so /proc does not show them; it has the first letters of the
    value as its name.
    """
    found, name = [], mark.partition("=")[2][:15].encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            named = (process / "comm").read_bytes().rstrip() == name and b"Z" not in _state(process)
            if named or mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _state(process: Path) -> bytes:
    return (process / "stat").read_bytes().rpartition(b")")[2].split()[0]


def with_files_in(folder: str) -> list[int]:
    """The living processes that have a file in a folder open, be it removed; some hide their environment."""
    found = set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(handle.readlink()).startswith(f"{folder}/"):
                found.add(int(handle.parts[2]))
    return sorted(found)


def kill_all(find: Callable[[], list[int]], patience: float = 10) -> None:
    """Kill -9 every process that is found, and those that they start meanwhile, and wait until none is left.

    Raises:
        TimeoutError: some of them are still there after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while members := find():
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            message = f"processes {members} do not die"
            raise TimeoutError(message)
        time.sleep(0.01)


def main(mark: str, folder: str) -> None:
    sys.stdin.read()
    try:
        kill_all(lambda: marked(mark) + with_files_in(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
