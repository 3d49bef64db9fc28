"""Trains from initial weights to theta*, with a checkpoint and a row of history for each epoch."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.errors import UserError
from landscape_mpi.networks import load_checkpoint
from landscape_mpi.surface.training import EDGES, EpochRecord, read_history, write_history
from landscape_mpi.train.checkpoints import (
    AFRESH,
    HISTORY,
    RunState,
    capture,
    checkpoint_path,
    clear,
    restore,
    save_checkpoint,
    write_run_state,
)
from landscape_mpi.train.learner import Learner, Means, learning_rate


def weights(network: nn.Module) -> list[Tensor]:
    """Return the parameters of more than one dimension: neither biases nor batch norm, as `ignore: biasbn` has it."""
    return [parameter.detach() for parameter in network.parameters() if parameter.ndim > 1]


def weight_norm(network: nn.Module) -> float:
    """Return the L2 norm of all weights together (the paper's Figure 2), summed in float64; 0 where there are none."""
    return math.sqrt(sum(tensor.double().square().sum().item() for tensor in weights(network)))


def weight_histogram(network: nn.Module) -> Tensor:
    """Return how many weights lie between each two of `EDGES`, int64 [len(EDGES) - 1]: a <= weight < b."""
    counts = torch.zeros(len(EDGES) - 1, dtype=torch.int64)
    for tensor in weights(network):
        inner = torch.tensor(EDGES[1:-1], dtype=tensor.dtype, device=tensor.device)
        which = torch.bucketize(tensor.flatten(), inner, right=True)
        counts += torch.bincount(which, minlength=len(counts)).cpu()
    return counts


Keep = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]
"""Weights and the state of the learner -> the files of an epoch."""


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return the network that `build` makes from the seed; the caller's random numbers are not disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    learner: Learner, folder: Path, start: RunState, report: Callable[[str], None], begin: Callable[[], None]
) -> list[EpochRecord]:
    """Train a network in place; write checkpoints from `epoch-0000.safetensors` on, `history.h5` and the run's state.

    Nothing is written before the first step has been taken; what is written before the first epoch is complete is
    removed where that epoch fails.

    With the same number of threads on the same kind of device, the same seed gives the same bits, whether it is done at
    once or goes on from where it was stopped.

    Args:
        learner: The network, initialised, with what it learns from.
        folder: The folder to write to.
        start: Where the run in it stands.
        report: Gets one line an epoch.
        begin: Makes the folder that of a new run; not called where one goes on.

    Returns:
        A record for each checkpoint.

    Raises:
        UserError: A file cannot be read or written, the loss is not one per example, or the training diverges.
        Interrupted: There is a reason to stop; what is complete is kept.
    """

    def keep(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        epoch = records[-1].epoch
        path = save_checkpoint(weights, folder, epoch)
        write_history(folder / HISTORY, records)
        write_run_state(folder, start.after(epoch, path, state))  # last: now the epoch counts
        report(_line(records[-1], learner.settings.epochs))

    with (
        torch.random.fork_rng(devices=[learner.device] if learner.device.type == "cuda" else []),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),  # the same algorithms each time
    ):
        torch.manual_seed(learner.settings.seed)  # of what a network draws while it learns, such as dropout
        records = _go_on(learner, folder, start) if start.epoch >= 0 else [_run_epoch(learner, 0)]
        begun = _Beginning(learner, folder, begin, keep) if start.epoch < 0 else None
        if begun and learner.settings.epochs == 0:
            begun()
        for epoch in range(len(records), learner.settings.epochs + 1):
            with begun if begun and epoch == 1 else nullcontext(lambda: None) as first_step:
                record = _run_epoch(learner, epoch, first_step)
            records.append(record)
            keep(learner.network.state_dict(), capture(learner))
    return records


class _Beginning:
    """Writes the first files of a new run, with the initial weights, once its first step has been taken.

    As a context manager it removes them where the first epoch fails, so that a corrected job finds an empty folder.
    """

    def __init__(self, learner: Learner, folder: Path, begin: Callable[[], None], keep: "Keep") -> None:
        self._folder, self._begin, self._keep = folder, begin, keep
        self._weights = {name: tensor.detach().clone() for name, tensor in learner.network.state_dict().items()}
        self._state = capture(learner)
        self._done = False

    def __call__(self) -> None:
        self._begin()
        self._done = True
        self._keep(self._weights, self._state)

    def __enter__(self) -> Callable[[], None]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._done and kind is not None and issubclass(kind, Exception):
            clear(self._folder)


def _go_on(learner: Learner, folder: Path, start: RunState) -> list[EpochRecord]:
    """Restore the learner's state, and return the records of the epochs so far."""
    records = read_history(folder / HISTORY)[: start.epoch + 1]
    if [record.epoch for record in records] != list(range(start.epoch + 1)):
        raise UserError(folder / HISTORY, f"expected a row for each of the epochs 0 to {start.epoch}", remedy=AFRESH)
    load_checkpoint(learner.network, checkpoint_path(folder, start.epoch))
    restore(learner, start.tensors)
    return records


def _run_epoch(learner: Learner, epoch: int, begun: Callable[[], None] = lambda: None) -> EpochRecord:
    """Learn one epoch, none for epoch 0, and evaluate what came of it; `begun` is called after the first step."""
    start = time.perf_counter()
    seen = learner.learn(epoch, begun) if epoch else Means()
    seconds = time.perf_counter() - start
    lr = learning_rate(learner.settings, epoch) if epoch else math.nan
    # evaluating the training split takes a third of an epoch: only where a run starts and ends
    ends = learner.evaluate("train") if epoch in (0, learner.settings.epochs) else Means()
    norm, histogram = weight_norm(learner.network), weight_histogram(learner.network).numpy()
    return EpochRecord(epoch, *seen, *learner.evaluate("test"), lr, seconds, *ends, norm, histogram)


def _line(record: EpochRecord, epochs: int) -> str:
    parts = [f"epoch {record.epoch}/{epochs}"]
    for name, loss, accuracy in (
        ("train", record.train_loss, record.train_acc),
        ("test", record.test_loss, record.test_acc),
    ):
        if not math.isnan(loss):
            parts.append(f"{name} loss {loss:.4f}" + ("" if math.isnan(accuracy) else f", {accuracy:.2f} %"))
    return "; ".join(parts) + (f" ({record.seconds:.1f} s, lr {record.lr:g})" if record.epoch else "")
