"""Sections of a job -> a network, a split, a normalisation; what `sweep` and `train` both need. Knows no plane."""

import ctypes

import torch
from torch import nn

from landscape_mpi.data import DEFAULT_NORMALISATION, Normalisation, Split, load_split
from landscape_mpi.job import Data, JobFile, Model, SweepJob, TrainJob
from landscape_mpi.networks import build_network
from landscape_mpi.plugin import is_plugin, load_plugin

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Settings of glibc's `mallopt`, from malloc.h."""


def build_model(job: JobFile[SweepJob] | JobFile[TrainJob]) -> nn.Module:
    """Return the network of `model.build` and `model.options`, in eval mode, with fresh weights.

    Raises:
        UserError: the network cannot be built.
    """
    model: Model = job.values.model
    return build_network(model.build, model.options, job.path.parent)


def open_split(job: JobFile[SweepJob] | JobFile[TrainJob], name: str) -> Split:
    """Return a split of the job's data.

    Raises:
        UserError: the data are absent or damaged.
    """
    data = job.values.data
    callable_ = load_plugin("data.build", data.build, job.path.parent) if is_plugin(data.build) else None
    root = job.resolve(data.root) if data.root is not None else None
    return load_split(data.build, root, name, data.options, data.limit, callable_)


def normalisation(data: Data) -> Normalisation | None:
    """Return the job's normalisation, else the data set's own; a user's data have none."""
    if data.normalize is not None:
        return Normalisation(data.normalize.mean, data.normalize.std)
    return DEFAULT_NORMALISATION.get(data.build)


def use_device(name: str) -> torch.device:
    """Return the device and settle on it: on a CPU one thread, because a rank is a core.

    More threads would fight over the cores and change no number.
    """
    device = torch.device(name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
        keep_memory()
    return device


def keep_memory() -> None:
    """Tell the C library (glibc) to keep freed memory for the next batch.

    It gives large blocks back to the system by default, and every batch then pays for fresh pages: a fifth of the
    time of a ResNet-56.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 1 << 29)
        mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most that glibc takes
