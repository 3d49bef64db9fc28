"""Writes and reads the history of a training run: one HDF5 file, a row a checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.atomic import atomic_write, reason
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.isolated import isolated

EDGES: NDArray[np.float64] = np.concatenate([[-np.inf], np.arange(-1024, 1025) / 1024, [np.inf]])
"""Where the bins of the histograms of weights begin and end: the same in every file, 1/1024 wide on [-1, 1]."""


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
        train_eval_loss: Mean loss over the train split at the end of the epoch, in eval mode and without augmentation,
            as a surface has it at (0, 0); measured where training starts and ends.
        train_eval_acc: The same for the accuracy, in percent.
        weight_norm: L2 norm of all parameters of more than one dimension together.
        weight_histogram: int64 [len(EDGES) - 1], how many of these parameters lie between each two of `EDGES`;
            None in the files of older versions.
    """

    epoch: int
    train_loss: float
    train_acc: float
    test_loss: float
    test_acc: float
    lr: float
    seconds: float
    train_eval_loss: float = math.nan
    train_eval_acc: float = math.nan
    weight_norm: float = math.nan
    weight_histogram: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)


HISTOGRAM = "weight_histogram"
COLUMNS = tuple(one for one in fields(EpochRecord) if one.name != HISTOGRAM)


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write one dataset a field, a row a record, and `weight_edges`; the file is replaced whole.

    `epoch` is int64 [n], `weight_histogram` int64 [n, len(EDGES) - 1], the others float64 [n].

    Raises:
        UserError: The file cannot be written.
    """
    try:
        with atomic_write(path) as aside, OwnFile(aside, "w") as file:
            for column in COLUMNS:
                values = [getattr(record, column.name) for record in records]
                file.create_dataset(column.name, data=np.array(values, np.int64 if column.type is int else np.float64))
            counts = [one.weight_histogram for one in records if one.weight_histogram is not None]
            if len(counts) == len(records):
                # nearly all of them are 0
                file.create_dataset(HISTOGRAM, data=np.array(counts, np.int64), compression="gzip", shuffle=True)
                file.create_dataset("weight_edges", data=EDGES)
    except (OSError, RuntimeError) as error:
        raise UserError(
            "train.output", f"{path} cannot be written ({reason(error)})", expected="a folder with space"
        ) from error


def is_history(path: Path) -> bool:
    """Return whether a file can be read and looks like a training history, not like a surface."""
    try:
        names = isolated([path], _names, path)
    except UserError:
        return False
    return "epoch" in names and "xcoordinates" not in names


def read_history(path: Path) -> list[EpochRecord]:
    """Return the rows of a history file; files of older versions lack what came later.

    Raises:
        UserError: The file is missing or is no history.
    """
    try:
        return isolated([path], _rows, path)
    except (UserError, KeyError, TypeError, ValueError) as error:
        # without the file, which the sentence begins with
        why = str(UserError("", error.found, error.expected, error.remedy)) if isinstance(error, UserError) else error
        raise UserError(
            path, f"cannot be read as a training history ({why})", expected="history.h5 of `train`"
        ) from None


def _names(path: Path) -> set[str]:
    with untrusted.open_file(path) as file:
        return set(untrusted.datasets(file))


def _rows(path: Path) -> list[EpochRecord]:
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        wanted = [column.name for column in COLUMNS if column.name in found or column.default is MISSING]
        columns: dict[str, Sequence[Any]] = {name: untrusted.numbers(found[name]).tolist() for name in wanted}
        counts = untrusted.numbers(found[HISTOGRAM]) if HISTOGRAM in found else None
    if counts is not None:
        if counts.ndim != 2 or counts.shape[1] != len(EDGES) - 1 or counts.dtype != np.int64:
            raise ValueError(f"{HISTOGRAM} is {counts.dtype} {list(counts.shape)}, not int64 [n, {len(EDGES) - 1}]")
        columns[HISTOGRAM] = list(counts)
    rows = zip(*columns.values(), strict=True)
    return [EpochRecord(**dict(zip(columns, row, strict=True))) for row in rows]
