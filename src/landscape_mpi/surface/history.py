"""The history of a training run as one HDF5 file, a row a checkpoint; knows nothing of torch."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from landscape_mpi.errors import UserError
from landscape_mpi.surface import untrusted
from landscape_mpi.surface.apart import apart


@dataclass(frozen=True)
class EpochRecord:
    """What is known of one checkpoint; NaN where nothing was measured.

    Attributes:
        epoch: Number of epochs trained; 0 is the initial network.
        train_loss: Mean loss over the epoch's batches as the network saw them, while it learned.
        train_acc: The same for the accuracy, in percent.
        test_loss: Mean loss over the test split at the end of the epoch, in eval mode.
        test_acc: Accuracy on the test split, in percent.
        lr: Learning rate of the epoch.
        seconds: Wall-clock time of the epoch without its evaluation.
    """

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    lr: float
    seconds: float


COLUMNS = tuple(field.name for field in fields(EpochRecord))


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write the datasets `epoch` (int64 [n]) and the other fields (float64 [n]); the file is replaced whole.

    Raises:
        UserError: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        with h5py.File(aside, "w", locking=False) as file:
            for name, values in zip(COLUMNS, zip(*map(astuple, records), strict=True), strict=True):
                file.create_dataset(name, data=np.array(values, np.int64 if name == "epoch" else np.float64))
        aside.replace(path)
    except OSError as error:
        raise UserError(f"train.output: {path} cannot be written ({error}); expected a folder with space.") from error


def _columns(path: Path) -> list[list[Any]]:
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        return [untrusted.numbers(found[name]).tolist() for name in COLUMNS]


def read_history(path: Path) -> list[EpochRecord]:
    """Return the rows of a history file.

    Raises:
        UserError: The file is missing or is no history.
    """
    try:
        columns = apart([path], _columns, path)
        return [EpochRecord(*row) for row in zip(*columns, strict=True)]
    except (UserError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a training history ({error}); expected history.h5 of `train`."
        ) from None
