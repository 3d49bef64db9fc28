"""Sweeps a network, data and a loss given as Python objects, and restores the settings of the calling process."""

import logging
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor, nn

from landscape_mpi.api.call import Call, argument, in_arguments
from landscape_mpi.api.surface import Surface
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.files.paths import absolute
from landscape_mpi.log import LOGGER, PASSED_OVER, Line, console, log
from landscape_mpi.mpi.communicator import world_if_started
from landscape_mpi.mpi.shutdown import Interrupted, Stop
from landscape_mpi.mpi.world import World, on_root, together
from landscape_mpi.surface.read import read_own
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.on_point import OnPoint
from landscape_mpi.sweeping.run import guarded_call, sweep_job

Directions: TypeAlias = Sequence[Mapping[str, Tensor]]
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def sweep(
    model: nn.Module,
    loss: str | Callable[[Any, Any], Tensor],
    data: Any,
    plane: Mapping[str, Any] | Directions | None = None,
    grid: Mapping[str, Sequence[float] | str | int] | int | Sequence[int] | str | None = None,
    *,
    output: str | Path | None = None,
    metrics: Sequence[str | Callable[[Any, Any], Any]] | None = None,
    batch_size: int | str | None = None,
    device: str = "auto",
    engine: str | None = None,
    dtype: str | None = None,
    loss_options: Mapping[str, Any] | None = None,
    batchnorm: str | None = None,
    weights: str | None = None,
    hessian: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    on_point: OnPoint | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Surface:
    """Compute f(alpha, beta) = L(theta* + alpha delta + beta eta) around a network, and return the surface.

    Under mpirun the ranks share the points, all of them call this, and each gets the surface; rank 0's arguments count.
    Nothing of this process is changed: not the network, not torch's settings or random state, not signal handlers.

    Args:
        model: the network, whose weights are theta*; a copy of it is evaluated in eval mode.
        loss: `cross_entropy`, `mse`, `next_token`, or a callable (outputs, targets) -> one loss per example, [n].
        data: (inputs, targets), each a tensor [n, ...] or a mapping of names to such tensors; a map-style Dataset of
            such pairs; or a mapping of "train" and "test" to these. A pair or a Dataset alone is the train split.
        plane: as the section `plane` of a job, by default {"kind": "random"}; `to` and `via` may be networks or state
            dicts. Or directions as mappings of parameters' names to tensors: (delta, eta), (delta,), or three.
        grid: {"alpha": [first, last, number of points], "beta": ...}, without beta for a line; or numbers of points; or
            "auto": as far as the loss rises by 1 nat, or doubles where it is not in nats.
        output: the surface file, which is kept; the sweep goes on with it where it exists; None keeps no file.
        metrics: "loss", "accuracy", "hessian", "spectrum", and callables (outputs, targets) -> one number per example,
            [n], or a mapping of names to such; by default the loss, and accuracy too where cross entropy has classes.
        batch_size: examples at a time, or "auto".
        device: "auto", "cpu", "cuda" or "cuda:K"; the network may lie anywhere.
        engine: as `evaluate.engine` of a job.
        dtype: as `evaluate.dtype`; by default float64 where the network is float64, else float32.
        loss_options: keyword arguments of the loss; "cross_entropy" and "next_token" take {"ignore_index": -100}, the
            target of places that do not count.
        batchnorm: "keep", "move" or "recompute", as `evaluate.batchnorm`.
        weights: "auto", "resident" or "streamed", as `evaluate.weights`.
        hessian: as the section `hessian`.
        sampling: as the section `sampling`.
        on_point: called on rank 0 with a `PointDone` for each point that is done.
        overwrite: start again from the beginning where `output` holds another sweep.
        quiet: print only errors on standard error.

    Raises:
        UserError: an argument does not fit; nothing has been written.
        CentreMismatchError: f(0, 0) is not the loss of the network, which may draw random numbers in eval mode.
        KeyboardInterrupt: stopped by SIGINT; what is done is kept in `output`.
        SystemExit: with code 75, stopped by another signal or before the end of a SLURM job; what is done is kept too.
    """
    evaluate = {"batch": batch_size, "engine": engine, "dtype": dtype, "batchnorm": batchnorm, "weights": weights}
    kept = None if output is None else str(output)
    call = Call(model, loss, loss_options, data, plane, grid, metrics, evaluate, hessian, sampling, kept)
    options = Options(device=device, overwrite=overwrite, through_root=output is None, on_point=on_point)
    if on_point is not None and not callable(on_point):
        raise UserError("on_point", f"found a {type(on_point).__name__}", expected="a function of one argument")
    stop, world = Stop(), _world()
    with listening(stop), undisturbed(), _place(world, call) as file, _logged(quiet, call, file):
        try:
            made = together(world, call.given).shared(world)
            job = on_root(world, call.job, made, file)
            code = guarded_call(world, sweep_job, job, made, options, world, stop)
        except UserError as error:
            raise in_arguments(error) from error.__cause__
        except Interrupted as reason:
            _stopped(world, str(reason), call.output)
        if code == Exit.RUN_AGAIN:
            _stopped(world, next(filter(None, world.allgather(stop.reason)), "a rank"), call.output)
        found = on_root(world, read_own, file)
        # rank 0's surface alone holds the bytes of a file that is not kept
        content = file.read_bytes() if kept is None and world.rank == 0 else None
    world.release()
    return Surface(found, None if kept is None else Path(kept), content, world.rank == 0)


@cache
def _world() -> World:
    """Return the world of this process, opened once: MPI never frees all that a communicator takes."""
    return world_if_started()


@contextmanager
def _place(world: World, call: Call) -> Iterator[Path]:
    """Yield the path of the surface file: the output, else one in a temporary folder that rank 0 makes and removes.

    Raises:
        UserError: the ranks of a sampled sweep are on several nodes, which all need the folder.
    """
    if call.output is not None:
        yield absolute(call.output, Path())
        return
    if call.sampling is not None and len(set(world.allgather(world.host))) > 1:
        remedy = "sampling on several nodes needs a file that all of them see"
        raise UserError("output", "is missing", remedy=remedy)
    folder = Path(on_root(world, mkdtemp, prefix="landscape_mpi-"))
    try:
        yield folder / "surface.h5"
    finally:
        if world.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _logged(quiet: bool, call: Call, file: Path) -> Iterator[None]:
    """Log messages with the names of arguments in place of keys, and none about a file that is not kept."""

    def in_words(record: logging.LogRecord) -> bool:
        words = record.msg.text if isinstance(record.msg, Line) else str(record.msg)
        record.msg = text = str(Line(words, argument))
        # a faster engine that cannot take the network is usual for calls
        usual = getattr(record, "kind", "") == PASSED_OVER
        hidden = usual or (call.output is None and file.parent.name in text.partition(": ")[0])
        return record.levelno >= logging.ERROR or not hidden

    LOGGER.addFilter(in_words)
    try:
        with console(logging.ERROR if quiet else None):
            yield
    finally:
        LOGGER.removeFilter(in_words)


def _stopped(world: World, reason: str, output: str | None) -> NoReturn:
    """Raise the exception for a sweep that was stopped.

    Raises:
        KeyboardInterrupt: by SIGINT.
        SystemExit: by anything else.
    """
    kept = f"what is done is kept in {output}: call again with the same arguments to go on"
    text = f"stopped by {reason}; {kept if output else 'nothing is kept without an output'}."
    sys.stdout.flush()
    if reason == "SIGINT":
        raise KeyboardInterrupt(text)
    log(world, text)
    raise SystemExit(int(Exit.RUN_AGAIN))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put back torch's number of threads, its flags, its device and its random state once the block has ended.

    Gradients can be taken within the block, whatever surrounds it.
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
        warnings.simplefilter("ignore")  # some versions warn of these names and advise others, which older ones lack
        allowed = [part.allow_tf32 for part in parts]
    # asking for the current device would create a context in a process that has not used CUDA yet
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
    """Take signals as reasons to stop while the block runs; in the main thread alone, as Python requires."""
    main = threading.current_thread() is threading.main_thread()
    return stop.listening() if main else nullcontext()
