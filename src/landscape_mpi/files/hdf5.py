"""Writes an HDF5 file by one process, and raises an exception where the disk is full or fails.

A write that fails leaves HDF5 with pages that it can neither write nor drop, and the process crashes later. Here HDF5
is told that every write has succeeded; the error is kept, and raised once HDF5 is done.
"""

import os
import weakref
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py

from landscape_mpi.files.atomic import Disk


class OwnFile:
    """An open HDF5 file, `hdf5`."""

    def __init__(self, path: Path, mode: str) -> None:
        """Open a file: `w` creates it, `r+` needs an existing one.

        Raises:
            OSError: the system or HDF5 refused.
        """
        self._raw = Shielded(path, "w+" if mode == "w" else mode)
        self._raw.shared = mode == "r+"
        self._disk = Disk(path)
        self.hdf5 = h5py.File(self._raw, mode)
        # HDF5 ends after Python: it would call Python for a file that is still open, when Python is gone
        weakref.finalize(self, self.hdf5.close)

    def flush(self) -> None:
        """Hand what was written to the system, where it survives this process, and every 30 seconds to the disk.

        Raises:
            OSError: the system refused some of it.
        """
        self.hdf5.flush()
        self._raw.check()
        self._disk.wrote()

    def close(self) -> None:
        """Close the file and wait until it is on its disk.

        Raises:
            OSError: the system refused some of it.
        """
        self.hdf5.close()
        self._disk.close()
        self._raw.close()
        self._raw.check()

    def __enter__(self) -> h5py.File:
        return self.hdf5

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Shielded(FileIO):
    """A file whose writes never fail; `check` raises the error that the system gave."""

    shared = False
    """Whether others may read the file while it is written."""
    _refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all bytes, or keep the error."""
        view, place = memoryview(data).cast("B"), self.tell()
        size = len(view)
        end = place + size
        try:
            while view:
                # one call, at its place: nothing lies between the two that others could see
                written = os.pwrite(self.fileno(), view, place) if self.shared else super().write(view) or 0
                view, place = view[written:], place + written
        except OSError as error:
            self._refused = self._refused or error
        self.seek(end)
        return size

    def truncate(self, size: int | None = None, /) -> int:
        """Set the file's size, or keep the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._refused = self._refused or error
            return size or 0

    def check(self) -> None:
        """Raise the first error of a write.

        Raises:
            OSError: a write was refused.
        """
        if self._refused:
            raise self._refused
