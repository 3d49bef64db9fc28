"""Bytes that survive a power cut; knows nothing of what they mean."""

import os
import time
from collections.abc import Callable
from pathlib import Path

EVERY = 30.0
"""Seconds between two times that a rank hands over to the disk: a power cut costs it no more work than that."""
HAND_OVER: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Not every system has the cheaper one."""


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


def replace_durably(aside: Path, path: Path) -> None:
    """Give a file that was written aside its own name, which always leads to all of this file or all of the one before.

    Raises:
        OSError: the file system could not do it.
    """
    make_durable(aside)
    aside.replace(path)
    make_durable(path.parent)
