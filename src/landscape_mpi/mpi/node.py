"""Shares a node among its ranks: which device each computes on, and arrays in a file that all of them map; no MPI.

The file is for where the node's shared memory has no room: containers give 64 MB to /dev/shm as a rule. A file in the
temporary folder is as shared: its pages are in memory once.
"""

import mmap
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError

OPEN_MPI = "OMPI_MCA_osc_sm_backing_directory"
"""Where Open MPI is told to keep them somewhere else."""
Form = tuple[tuple[int, ...], np.dtype[np.generic]]
"""Shape and dtype of an array."""
PAGE = mmap.ALLOCATIONGRANULARITY
SLACK = 1 << 17
"""Bytes that MPI takes for itself with every window, at the most."""


def choose_device(requested: str, local_rank: int, cuda_devices: int) -> str:
    """Return `cpu` or `cuda:K` for a rank.

    Args:
        requested: `auto`, `cpu`, `cuda` or `cuda:K`.
        local_rank: the rank among those on the same node.
        cuda_devices: how many CUDA devices this process sees; more ranks than devices share them in turn.

    Raises:
        UserError: the request is not understood, or asks for a device that is not there.
    """
    if requested == "cpu" or (requested == "auto" and cuda_devices == 0):
        return "cpu"
    wanted = re.fullmatch(r"auto|cuda(?::(\d+))?", requested)
    if not wanted:
        raise UserError(Flag("device"), f"found {requested!r}", expected="auto, cpu, cuda or cuda:K")
    index = int(wanted[1]) if wanted[1] else local_rank % max(cuda_devices, 1)
    if index >= cuda_devices:
        raise UserError(
            Flag("device"), f"found {requested!r}, and this process sees {cuda_devices} CUDA devices", remedy="use cpu"
        )
    return f"cuda:{index}"


def shared_memory() -> Path:
    """Return where the MPI libraries keep shared windows."""
    return Path(os.environ.get(OPEN_MPI, "/dev/shm"))


def nbytes(forms: Sequence[Form]) -> int:
    """Return how many bytes arrays take, each from the beginning of a page."""
    return sum(_size(form) for form in forms)


def room(folder: Path) -> int | None:
    """Return how many bytes a file system has free; None where that is unknown."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def new_file(size: int) -> str | None:
    """Make a file of so many bytes, really allocated, in the temporary folder; None where there is no room for it."""
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


def mapped(name: str, forms: Sequence[Form]) -> list[NDArray[np.generic]] | None:
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
