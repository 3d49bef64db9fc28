"""A process as it was: what a sweep sets of torch and of signals is put back; knows nothing of sweeps."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch

from landscape_mpi.mpi.shutdown import Stop

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back torch's number of threads, its flags, its device and its random state once the block has ended.

    Within it gradients can be taken, whatever surrounds it.
    """
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    flags, workspace = (cudnn.benchmark, cudnn.deterministic), os.environ.get(WORKSPACE)
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(range(torch.cuda.device_count()) if started else ()), _cuda():
        try:
            with torch.inference_mode(mode=False), torch.enable_grad():
                yield
        finally:
            torch.set_num_threads(threads)
            cudnn.benchmark, cudnn.deterministic = flags
            if workspace is None:
                os.environ.pop(WORKSPACE, None)


@contextmanager
def _cuda() -> Iterator[None]:
    """Put back the current device and whether TF32 is allowed, where there is CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    parts: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions warn of these names for others, which older ones lack
        allowed = [part.allow_tf32 for part in parts]
    # asked of a process that has not used CUDA yet, the current device would cost it a context
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.set_device(device)
        with warnings.catch_warnings(), suppress(RuntimeError):
            warnings.simplefilter("ignore")
            for part, value in zip(parts, allowed, strict=True):
                part.allow_tf32 = value


def listening(stop: Stop) -> AbstractContextManager[None]:
    """Take signals as reasons to stop while the block runs, in the main thread: no other may ask for them."""
    main = threading.current_thread() is threading.main_thread()
    return stop.listening() if main else nullcontext()
