"""Opens the world of many ranks by mpi4py: barriers, broadcasts, messages, arrays that a node's ranks share."""

import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir, mkstemp
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.log import note
from landscape_mpi.mpi.failures import Parent
from landscape_mpi.mpi.launcher import check_launcher, launcher_of
from landscape_mpi.mpi.world import Solo, World, check_teams, wait_for

T = TypeVar("T")
OPEN_MPI = "OMPI_MCA_osc_sm_backing_directory"
"""The variable that tells Open MPI to keep shared windows in another folder."""
Form = tuple[tuple[int, ...], np.dtype[np.generic]]
"""Shape and dtype of an array."""
PAGE = mmap.ALLOCATIONGRANULARITY
SLACK = 1 << 17
"""The most bytes that MPI takes for itself with every window."""
RECOVERS = "OMPI_MCA_orte_enable_recovery"
"""The variable that Open MPI's `mpirun --enable-recovery` sets: a dead rank does not end the job."""
PATIENCE = 60.0
"""Seconds that MPI gets to start in the process that tests whether it does."""
MESSAGE = 1 << 30
"""The most bytes of a message: MPI counts them in 32 bits."""
KEPT = 32
"""Number of messages that are kept until they are surely gone.

If MPI is asked about a new message, it lets other processes run first, for a long time.
"""


def open_world(parent: Parent | None = None) -> World:
    """Return the world that this process was started in; a world of one rank where there is no MPI library.

    Args:
        parent: the process above this one, where it belongs to this package.

    Raises:
        UserError: the launcher does not fit the MPI library.
    """
    launcher = launcher_of(os.environ)
    if launcher and launcher.slurm and not is_started():
        if not launcher.many:  # a shell or a notebook: MPI would look for the tasks of its step, or refuse to start
            alone = Solo(parent)
            if launcher.size > 1 and parent:
                tasks = f"this is the shell of a step of {launcher.size} tasks"
                note(alone, f"{tasks}: one process; mpirun starts ranks in it.")
            return alone
        if launcher.mute and not _starts():
            check_launcher(1, os.environ)
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError):
        check_launcher(1, os.environ)
        return Solo(parent)
    check_launcher(MPI.COMM_WORLD.size, os.environ)
    return MpiWorld(MPI, MPI.COMM_WORLD, parent)


def _starts() -> bool:
    """Return whether MPI starts here, tested in another process: MPI ends a process where it does not know SLURM."""
    command = [sys.executable, "-c", "from mpi4py import MPI"]
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def world_if_started() -> World:
    """Return the world of a launcher, or of the MPI that this process has started itself; else a world of one rank.

    Nothing starts MPI here: a notebook could not be forked any more, and reading a surface would take a new program.

    Raises:
        UserError: the launcher does not fit the MPI library.
    """
    return open_world() if is_started() or launcher_of(os.environ) else Solo()


def is_started() -> bool:
    """Return whether this process has started MPI."""
    return "mpi4py.MPI" in sys.modules


def library_version() -> str:
    """Return the name and version of the MPI library, or why there is none."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return f"none ({error})"
    return " ".join(str(MPI.Get_library_version()).split("\n")[0].strip(" \0,").split())


def library_file() -> str:
    """Return the file of the MPI library that this process has loaded; "unknown" where there is none or no /proc."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return "unknown"
    files = (line.split(maxsplit=5)[5] for line in lines if "/" in line)
    return next((file for file in files if Path(file).name.startswith(("libmpi.", "libmpich."))), "unknown")


class MpiWorld:
    """The ranks of an MPI communicator."""

    def __init__(self, mpi: Any, communicator: Any, parent: Parent | None = None, me: str = "") -> None:
        """Take the mpi4py.MPI module and the communicator of the ranks; `me`: this rank in messages. Collective."""
        self._mpi = mpi
        self.communicator, self.parent = communicator, parent
        self.rank, self.size = communicator.rank, communicator.size
        self.host = socket.gethostname()
        self.me = me or f"rank {self.rank} on {self.host}"
        self.threads = mpi.Query_thread() == mpi.THREAD_MULTIPLE
        # a communicator of its own: HDF5 and the messages of the sweep never see each other's traffic
        self._messages = communicator.Dup()
        self._leaving: deque[Any] = deque()
        self._node = communicator.Split_type(mpi.COMM_TYPE_SHARED)
        self.local_rank = self._node.rank
        self._windows: list[Any] = []
        if self.size > 1 and parent is None:
            _die_with_launcher()
        elif self.size > 1 and parent:
            parent.opened()

    def barrier(self) -> None:
        """Sleep until every rank is here."""
        self._sleep_until_all(self.communicator)

    def bcast(self, value: T) -> T:
        """Return rank 0's value on every rank."""
        self.barrier()
        return self.communicator.bcast(value)  # type: ignore[no-any-return]

    def allgather(self, value: T) -> list[T]:
        """Return every rank's value on every rank."""
        self.barrier()
        return self.communicator.allgather(value)  # type: ignore[no-any-return]

    def gather(self, value: T) -> list[T] | None:
        """Return every rank's value on rank 0, None elsewhere."""
        self.barrier()
        return self.communicator.gather(value)  # type: ignore[no-any-return]

    def share(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the arrays of local rank 0, held once in this node's memory; once per rank where no place has room."""
        self._sleep_until_all(self._node)
        forms: list[Form] = self._node.bcast([(array.shape, array.dtype) for array in arrays])
        shared, words = self._hold(forms)
        for text in dict.fromkeys(filter(None, self.allgather(words))):
            note(self, f"{text}.")
        if shared is None:
            copies = [np.empty(*form) for form in forms] if self._node.rank else list(map(np.ascontiguousarray, arrays))
            for copy in copies:
                raw = copy.reshape(-1).view(np.uint8)
                for begin in range(0, raw.size, MESSAGE):
                    self._node.Bcast(raw[begin : begin + MESSAGE])
            return copies
        if self._node.rank == 0:
            for target in shared:
                target[...] = arrays.pop(0)
        self._sleep_until_all(self._node)
        return shared

    def _hold(self, forms: list[Form]) -> tuple[list[NDArray[Any]] | None, str]:
        """Return arrays that this node's ranks share, None where no place has room, and what to say of that.

        MPI dies if a shared window has no room, so the room is checked first.
        """
        need, free = nbytes(forms), free_bytes(shared_memory())
        if self._node.bcast(self._node.size == 1 or free is None or need + SLACK * len(forms) <= free):
            arrays = []
            for shape, dtype in forms:
                size = int(np.prod(shape)) * dtype.itemsize if self._node.rank == 0 else 0
                self._windows.append(self._mpi.Win.Allocate_shared(size, dtype.itemsize, comm=self._node))
                buffer, _ = self._windows[-1].Shared_query(0)
                arrays.append(np.ndarray(shape, dtype, buffer))
            return arrays, ""
        file = self._node.bcast(new_file(need) if self._node.rank == 0 else None)
        found = map_arrays(file, forms) if file else None
        everywhere = all(self._node.allgather(found is not None))
        if file and self._node.rank == 0:
            Path(file).unlink(missing_ok=True)
        place = f"a file in {gettempdir()}" if everywhere else "a copy per rank, because there is no room there either"
        short = f"{shared_memory()} on {self.host} has {(free or 0) / 1e6:.3g} MB free"
        words = f"{short}, and the node's {self._node.size} ranks share {need / 1e6:.3g} MB: they use {place}"
        return found if everywhere else None, words if self._node.rank == 0 else ""

    def release(self) -> None:
        """Free the shared arrays, which no rank may use any more; collective."""
        while self._windows:
            self._windows.pop().Free()

    def send(self, message: Any, to: int) -> None:
        """Send a message and keep its buffer: MPI's own wait would take processor time until it is received."""
        while len(self._leaving) >= KEPT and self._leaving[0].Test():
            self._leaving.popleft()
        self._leaving.append(self._messages.isend(message, to))

    def poll(self) -> tuple[int, Any] | None:
        """Return a message that has arrived and its sender, else None."""
        status = self._mpi.Status()
        if not self._messages.iprobe(status=status):
            return None
        return status.source, self._messages.recv(source=status.source)

    def abort(self, code: int) -> None:
        """End every rank at once."""
        if self.parent:
            self.parent.abort(code)
            if os.environ.get(RECOVERS, "0") != "0":  # Open MPI's own way may leave mpirun hanging then
                os._exit(code)
        self.communicator.Abort(code)

    def team(self, size: int) -> World:
        """Return the world of `size` consecutive ranks, this one among them; collective. Raises as `World.team`."""
        check_teams(size, self.allgather(self.host))
        return MpiWorld(self._mpi, self.communicator.Split(self.rank // size, self.rank), self.parent, self.me)

    def _sleep_until_all(self, communicator: Any) -> None:
        request = communicator.Ibarrier()
        wait_for(lambda: request.Test() or None)


def _die_with_launcher() -> None:
    """End this process once its launcher is gone, as after a kill -9 of mpirun alone."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="launcher watch", daemon=True).start()


# The ranks of a node share arrays in a file where its shared memory has no room: containers usually give 64 MB to
# /dev/shm. A file in the temporary folder is shared as well: its pages are in memory once.


def shared_memory() -> Path:
    """Return where the MPI libraries keep shared windows."""
    return Path(os.environ.get(OPEN_MPI, "/dev/shm"))


def nbytes(forms: Sequence[Form]) -> int:
    """Return how many bytes arrays take, each from the beginning of a page."""
    return sum(_size(form) for form in forms)


def free_bytes(folder: Path) -> int | None:
    """Return how many bytes a file system has free; None where that is unknown."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def new_file(size: int) -> str | None:
    """Make a file of `size` bytes, really allocated, in the temporary folder; None where there is no room for it."""
    with suppress(OSError):
        file, name = mkstemp(prefix="landscape_mpi-")
        try:
            os.posix_fallocate(file, 0, size)
            return name
        except OSError:
            Path(name).unlink()
        finally:
            os.close(file)
    return None


def map_arrays(name: str, forms: Sequence[Form]) -> list[NDArray[np.generic]] | None:
    """Return arrays in a file that `new_file` made; None where this process cannot open it."""
    try:
        file = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            buffer = mmap.mmap(file, nbytes(forms))
        finally:
            os.close(file)
    except (OSError, ValueError):
        return None
    places = np.cumsum([0, *map(_size, forms)])
    return [np.ndarray(shape, dtype, buffer, int(place)) for (shape, dtype), place in zip(forms, places, strict=False)]


def _size(form: Form) -> int:
    shape, dtype = form
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return max(-(-size // PAGE), 1) * PAGE
