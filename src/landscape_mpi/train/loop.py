"""From initial weights to theta*, leaving a checkpoint and a row of history an epoch; knows no job file."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.evaluate.losses import Loss
from landscape_mpi.job.values import Train
from landscape_mpi.surface.history import EpochRecord, write_history
from landscape_mpi.train.checkpoints import HISTORY, prepare_folder, save_checkpoint
from landscape_mpi.train.learner import Learner, Means, learning_rate
from landscape_mpi.train.weights import weight_histogram, weight_norm


def initialise(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return the network that `build` makes from the seed; the caller's random numbers are not disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    network: nn.Module,
    train_split: Split,
    test_split: Split | None,
    normalisation: Normalisation | None,
    loss: Loss,
    settings: Train,
    output: Path,
    device: torch.device,
    report: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> list[EpochRecord]:
    """Train the network in place; write `epoch-0000.safetensors` (as it came) and so on, and `history.h5`.

    With the same number of threads on the same kind of device, the same seed gives the same bits.

    Args:
        network: Initialised; it ends on the device.
        train_split: What it learns from.
        test_split: What it is evaluated on after each epoch, if anything.
        normalisation: Of the inputs of both; None leaves them as they are.
        loss: (outputs, targets) -> one loss per example, [n].
        settings: How it is trained; `output` in it is ignored.
        output: The folder to write to.
        device: Where to compute.
        report: Gets one line an epoch.
        overwrite: Whether checkpoints of an earlier run in the folder are removed first.

    Returns:
        A record for each checkpoint.

    Raises:
        UserError: The folder cannot be used, the loss is not one per example, or the training diverges.
    """
    splits = {"train": train_split} | ({} if test_split is None else {"test": test_split})
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learner = Learner(network, splits, normalisation, loss, settings)
    prepare_folder(output, overwrite=overwrite)
    records: list[EpochRecord] = []
    with _repeatable(settings.seed, device):
        for epoch in range(settings.epochs + 1):
            records.append(_run_epoch(learner, epoch))
            save_checkpoint(network, output, epoch)
            write_history(output / HISTORY, records)
            report(_line(records[-1], settings.epochs))
    return records


@contextmanager
def _repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Seed what a network draws while it learns (dropout), and have cuDNN choose the same algorithms each time."""
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),
    ):
        torch.manual_seed(seed)
        yield


def _run_epoch(learner: Learner, epoch: int) -> EpochRecord:
    """Learn one epoch, none for epoch 0, and evaluate what came of it."""
    start = time.perf_counter()
    seen = learner.learn(epoch) if epoch else Means()
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
