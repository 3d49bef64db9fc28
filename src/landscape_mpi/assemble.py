"""Builds the network, the data and the normalisation that a job names, and sets up the device."""

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from landscape_mpi.data import DEFAULT_NORMALISATION, Normalisation, Split, load_split
from landscape_mpi.errors import UserError
from landscape_mpi.job import Data, JobFile, Model, SweepJob, TrainJob
from landscape_mpi.networks import build_network, huggingface
from landscape_mpi.plugin import is_plugin, load_plugin

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of glibc's `mallopt`, from malloc.h."""


def build_model(job: JobFile[SweepJob] | JobFile[TrainJob], *, empty: bool = False) -> nn.Module:
    """Return the network of `model.build` and `model.options`, as its callable makes it, with fresh weights.

    `empty`: its parameters are left on the meta device, without memory.

    Raises:
        UserError: the network cannot be built.
    """
    model: Model = job.values.model
    if model.build == huggingface.NAME:
        if model.checkpoint is None:
            raise UserError("model.checkpoint", "is missing", expected="the folder with its config.json")
        return huggingface.build_huggingface(job.resolve(model.checkpoint), model.options, empty=empty)
    return build_network(model.build, model.options, job.path.parent, empty=empty)


def open_split(job: JobFile[SweepJob] | JobFile[TrainJob], name: str) -> Split:
    """Return a split of the job's data.

    Raises:
        UserError: the data are absent or damaged.
    """
    data = job.values.data
    callable_ = load_plugin("data.build", data.build, job.path.parent) if is_plugin(data.build) else None
    root, options = job.resolve(data.root) if data.root is not None else None, data.options
    if data.build == "text" and isinstance(options.get("tokenizer"), str):
        options = {**options, "tokenizer": str(job.resolve(options["tokenizer"]))}
    return load_split(data.build, root, name, options, data.limit, callable_, data.order)


def normalisation(data: Data) -> Normalisation | None:
    """Return the job's normalisation, else the data set's own; a user's data have none."""
    if data.normalize is not None:
        return Normalisation(data.normalize.mean, data.normalize.std)
    return DEFAULT_NORMALISATION.get(data.build)


def use_device(name: str, tf32: bool = False) -> torch.device:
    """Return the device, set up for the whole process: a CPU uses one thread, because each core has a rank.

    More threads would compete for the cores and change no number. A CUDA device computes the same bits each time, and
    uses TF32 only where that is asked for.

    Raises:
        UserError: TF32 is asked for on a CPU.
    """
    device = torch.device(name)
    if device.type == "cuda":
        # cuBLAS adds in a fixed order only with a work space of fixed size, and reads this variable when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        allow_tf32(tf32)
    elif tf32:
        raise UserError(
            "evaluate.dtype", "found tf32, which a CPU does not have", remedy="write float32, or use a CUDA device"
        )
    else:
        torch.set_num_threads(1)
    return device


def allow_tf32(allowed: bool) -> None:
    """Let CUDA devices take products of float32 in TF32 or forbid it; PyTorch allows it in convolutions by default."""
    with warnings.catch_warnings():
        # some versions of torch warn of these names and want others, which older versions lack; newer ones take both
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = allowed
        torch.backends.cuda.matmul.allow_tf32 = allowed


@contextmanager
def without_tf32(allowed: bool) -> Iterator[None]:
    """Forbid TF32 for a while, where it is allowed."""
    if not allowed:
        yield
        return
    allow_tf32(False)
    try:
        yield
    finally:
        allow_tf32(True)


def keep_no_memory() -> None:
    """Tell the C library (glibc) to give blocks of 1 MB and more back as they are freed: the opposite of `keep_memory`.

    Parts of a network that are put together in turn leave gaps that other parts do not fit into. In the end these gaps
    take as much memory as the network.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 1 << 20)
        mallopt(M_MMAP_THRESHOLD, 1 << 20)


def give_back_memory() -> None:
    """Tell the C library (glibc) to give freed memory back to the system; `keep_memory` lets it keep much of it.

    Large tensors of a size that has been freed do not always fit into the gap: they have to be aligned.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_memory() -> None:
    """Tell the C library (glibc) to keep freed memory for the next batch.

    It gives large blocks back to the system by default. Every batch then needs fresh pages, which take a fifth of the
    time of a ResNet-56. This cannot be undone, and is for processes that do nothing else.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 1 << 29)
        mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most that glibc takes
