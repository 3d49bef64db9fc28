"""Writes results into an existing surface file: by every rank through parallel HDF5, or by rank 0 for all."""

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.files.atomic import Disk, HeldFile, in_words
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.metrics.registry import in_schema
from landscape_mpi.surface.platforms import BY
from landscape_mpi.surface.schema import LONGEST, AuditResult, Record


class Writer(Protocol):
    """Writes records, either on the rank that computed a record, or on rank 0, where all records arrive."""

    def at_rank(self, record: Record) -> None:
        """Take a record on the rank that computed it."""

    def at_root(self, record: Record) -> None:
        """Take a record that arrived on rank 0."""

    def at_failure(self, record: Record) -> None:
        """Take, on rank 0, the record of a point that no rank could compute."""

    def sync(self) -> None:
        """Wait until what this rank wrote is on its disk."""

    @property
    def name_lost(self) -> bool:
        """Whether, on rank 0, the file has lost its name, so that there is no use in going on."""

    def finish(self, barrier: Callable[[], None], complete: bool) -> None:
        """Mark the file where it is complete, and close it; `barrier` waits until every rank is here.

        Raises:
            UserError: the system refuses, or the file has lost its name and was saved as a copy.
        """


def open_writer(path: Path, communicator: Any, root: bool, platforms: Sequence[int] = ()) -> Writer:
    """Open an existing surface to write into; collective on the communicator.

    It writes through parallel HDF5 where h5py has it and there is an mpi4py communicator, else through rank 0. The
    environment variable LANDSCAPE_WRITER=root asks for the second, for file systems on which MPI-IO does not work.
    `platforms`: for each rank its number in the file's list of platforms.
    """
    parallel = h5py.get_config().mpi and communicator is not None
    if parallel and os.environ.get("LANDSCAPE_WRITER") != "root":
        return ParallelWriter(path, communicator, root, platforms)
    return RootWriter(path, root, platforms)


def hdf5_version() -> str:
    """Return the version of the HDF5 library and whether it is parallel."""
    return f"{h5py.version.hdf5_version} ({'parallel' if h5py.get_config().mpi else 'serial'})"


class ParallelWriter:
    """Every rank writes its own results into the shared file: raw, independent, values first, status last."""

    def __init__(self, path: Path, communicator: Any, root: bool, platforms: Sequence[int] = ()) -> None:
        """Open the file collectively on an mpi4py communicator; `root`: whether this is rank 0 of the sweep."""
        self._root = root
        self._path = path
        with in_words(path):
            self._file = h5py.File(path, "r+", driver="mpio", comm=communicator)
            self._disk = Disk(path)
            self._held = HeldFile(path) if root else None
        self._cells, self._rest = Cells(self._file, platforms), Cells(self._file, platforms)
        if communicator.size == 1:  # a failure leaves it open until after MPI; among more ranks a close would hang
            weakref.finalize(self, self._file.close)

    def at_rank(self, record: Record) -> None:
        """Write the record; once this returns it survives the death of any process.

        Raises:
            UserError: the system refuses.
        """
        with in_words(self._path):
            self._cells.write(record)
            self._disk.wrote()

    def at_root(self, record: Record) -> None:
        """Do nothing: the rank that computed the record has written it."""

    def at_failure(self, record: Record) -> None:
        """Write the record, in a thread of its own, while this rank may be writing another record."""
        with in_words(self._path):
            self._rest.write(record)

    def sync(self) -> None:
        """Wait until what this rank wrote is on its disk."""
        with in_words(self._path):
            self._disk.hand_over()

    def finish(self, barrier: Callable[[], None], complete: bool) -> None:
        """Wait for all ranks, mark a complete file on rank 0, and close the file collectively."""
        barrier()
        with in_words(self._path):
            try:
                if self._root and complete:
                    write_end(self._file)
            finally:
                self._file.close()
            self._disk.close()
        if self._held is not None:
            self._held.close()

    @property
    def name_lost(self) -> bool:
        """Whether, on rank 0, the file has lost its name."""
        return self._held is not None and self._held.name_lost


class RootWriter:
    """Rank 0 writes for all ranks, where h5py has no MPI; the file is the same."""

    def __init__(self, path: Path, root: bool, platforms: Sequence[int] = ()) -> None:
        """Open the file on rank 0; the other ranks hold nothing."""
        self._path = path
        with in_words(path):
            self._file = OwnFile(path, "r+") if root else None
            self._held = HeldFile(path) if root else None
        self._cells = Cells(self._file.hdf5, platforms) if self._file else None

    def at_rank(self, record: Record) -> None:
        """Do nothing: rank 0 writes."""

    def at_root(self, record: Record) -> None:
        """Write the record and hand it to the system, so that it survives the death of this process.

        Raises:
            UserError: the system refuses.
        """
        if self._file and self._cells:
            with in_words(self._path):
                self._cells.write(record)
                self._file.flush()

    def sync(self) -> None:
        """Do nothing: rank 0 alone has written."""

    def at_failure(self, record: Record) -> None:
        """Write the record."""
        self.at_root(record)

    def finish(self, barrier: Callable[[], None], complete: bool) -> None:
        """Wait for the other ranks, then mark a complete file and close it on rank 0."""
        barrier()
        if self._file:
            with in_words(self._path):
                if complete:
                    write_end(self._file.hdf5)
                self._file.close()
        if self._held is not None:
            self._held.close()

    @property
    def name_lost(self) -> bool:
        """Whether, on rank 0, the file has lost its name."""
        return self._held is not None and self._held.name_lost


class WholeWriter:
    """Writes whole datasets: in a sampled sweep every round changes every estimate. Rank 0 alone makes one."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._path = path
        with in_words(path):
            self._file = OwnFile(path, "r+")
            self._held = HeldFile(path)
        self._schema = int(self._file.hdf5.attrs["schema"])

    @property
    def name_lost(self) -> bool:
        """Whether the file has lost its name."""
        return self._held.name_lost

    def has(self, name: str) -> bool:
        """Return whether the file has a dataset."""
        return name in self._file.hdf5

    def read(self, name: str) -> NDArray[Any]:
        """Return a dataset as it is in the file."""
        return np.asarray(self._file.hdf5[name][()])

    def write(self, results: Mapping[str, NDArray[Any]], status: NDArray[np.uint8]) -> None:
        """Write whole datasets, last of all the status, and hand them to the system.

        Raises:
            UserError: the system refuses.
        """
        with in_words(self._path):
            for name, values in (*results.items(), ("status", status)):
                self._file.hdf5[in_schema(name, self._schema)][...] = values
            self._file.flush()

    def finish(self, rounds: int, audit: AuditResult | None) -> None:
        """Write how the sweep ended and mark the file complete.

        Raises:
            UserError: the system refuses, or the file has lost its name and was saved as a copy.
        """
        with in_words(self._path):
            self._file.hdf5["rounds"][()] = rounds
            if audit is not None:
                self._file.hdf5["audit"][...] = astuple(audit)[: self._file.hdf5["audit"].size]
            write_end(self._file.hdf5)
            self._file.flush()
        self._held.save_if_lost()

    def close(self) -> None:
        """Close the file and wait until it is on its disk."""
        with in_words(self._path):
            self._file.close()
        self._held.close()


class Cells:
    """The datasets of an open surface, written one point at a time."""

    def __init__(self, file: h5py.File, platforms: Sequence[int]) -> None:
        self._file, self._platforms, self._schema = file, platforms, int(file.attrs["schema"])
        self._cells: dict[str, Cell] = {}

    def write(self, record: Record) -> None:
        """Write values, rank, seconds and platform of a point, and last its status."""
        cells: dict[str, float | bytes | NDArray[np.float64]] = {
            **record.values,
            "rank": record.rank,
            "seconds": record.seconds,
            "error": fitting(record.note),
        }
        if 0 <= record.rank < len(self._platforms):
            cells[BY] = self._platforms[record.rank]
        for name, value in (cells | {"status": record.status}).items():
            if name not in self._cells:
                self._cells[name] = Cell(self._file[in_schema(name, self._schema)], len(record.index))
            self._cells[name].write(record.index, value)


class Cell:
    """Writes one point of a dataset at a time, by HDF5's own calls: h5py's indexing takes over twenty times as long."""

    def __init__(self, dataset: h5py.Dataset, axes: int) -> None:
        """Take a dataset whose first `axes` axes are those of the grid; along others a point has several numbers."""
        self._id, self._space, self._type = dataset.id, dataset.id.get_space(), dataset.id.get_type()
        within = dataset.shape[axes:]
        self._first, self._size = (0,) * len(within), (*(1,) * axes, *within)
        self._value, self._one = np.zeros(within or 1, dataset.dtype), h5py.h5s.create_simple(within or (1,))

    def write(self, index: tuple[int, ...], value: float | bytes | NDArray[np.float64]) -> None:
        """Write the value of the point at (iy, ix) or (ix,)."""
        self._value[...] = value
        place = (*index, *self._first)
        self._space.select_hyperslab(place, self._size)
        try:
            self._id.write(self._one, self._space, self._value, self._type)
        except (OSError, RuntimeError):
            _write_again(self._id, self._value, int(np.ravel_multi_index(place, self._id.shape)))
            raise


def _write_again(dataset: h5py.h5d.DatasetID, value: NDArray[Any], place: int) -> None:
    """Write elements by a system call, as MPI does not pass on the system's error; `place`: the index of the first.

    Raises:
        OSError: the system refuses.
    """
    file = os.open(h5py.h5i.get_file_id(dataset).name, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(file, value.tobytes(), dataset.get_offset() + value.itemsize * place)
    finally:
        os.close(file)


def fitting(note: str) -> bytes:
    """Return the first line of a note, as much of it as `/error` holds, cut between characters."""
    raw = note.partition("\n")[0].encode()[:LONGEST]
    return raw.decode(errors="ignore").encode()


def seal(path: Path) -> None:
    """Mark a surface with all points as complete, where its last run died between its last point and its end."""
    with h5py.File(path, "r", locking=False) as file:
        if file["complete"][()]:
            return
    with in_words(path), OwnFile(path, "r+") as file:
        write_end(file)


def forget(path: Path, status: NDArray[np.uint8]) -> None:
    """Write a status in which some points are no longer done, and mark the file as not complete."""
    with in_words(path), OwnFile(path, "r+") as file:
        file["complete"][()] = np.uint8(0)
        file["status"][...] = status


def write_end(file: h5py.File) -> None:
    """Write the time, and last of all `/complete`."""
    for name, value in (("finished", time.time()), ("complete", 1)):
        try:
            file[name][()] = value
        except (OSError, RuntimeError):
            _write_again(file[name].id, np.array(value, file[name].dtype), 0)
            raise
