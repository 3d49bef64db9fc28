"""Training histories as columns of numbers, each with a name; knows nothing of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.plot.origin import plain
from landscape_mpi.surface.history import COLUMNS, EpochRecord, read_history
from landscape_mpi.surface.trajectory import learning_rate_drops

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class History:
    """The history of one training run.

    Attributes:
        path: the file it was read from.
        label: what a legend calls it.
        columns: float64 [n] by the names of `EpochRecord`, a row a checkpoint; NaN where there is no finite number.
        counts: int64 [len(EDGES) - 1], the histogram of the weights of the last checkpoint; None in older files.
    """

    path: Path
    label: str
    columns: Mapping[str, Values]
    counts: NDArray[np.int64] | None

    @property
    def epoch(self) -> Values:
        """How many epochs each checkpoint was trained for, [n]."""
        return self.columns["epoch"]

    @property
    def drops(self) -> tuple[float, ...]:
        """After how many epochs the learning rate became smaller."""
        return tuple(self.epoch[learning_rate_drops(self.columns["lr"])].tolist())


def read_histories(paths: Sequence[Path]) -> list[History]:
    """Read histories and name them: by their folders, as `train.output` says, or by their own names.

    Raises:
        UserError: one of them is missing, is no history, or has no rows.
    """
    return [_history(path, label) for path, label in zip(paths, _labels(paths), strict=True)]


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return as much of the end of each path as tells them apart."""
    whole = [_named_parts(path.resolve()) for path in paths]
    for depth in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-depth:]) for parts in whole]
        if len(set(names)) == len(names):
            break
    # matplotlib leaves labels with an underscore out of a legend
    return [f" {name}" if name.startswith("_") else name for name in map(plain, names)]


def _named_parts(path: Path) -> tuple[str, ...]:
    return path.parent.parts if path.name == "history.h5" else path.with_suffix("").parts


def _history(path: Path, label: str) -> History:
    records = read_history(path)
    if not records:
        raise UserError(f"{path}: nothing to draw: the history has no rows; expected one a checkpoint.")
    columns = {column.name: _column(path, records, column.name) for column in COLUMNS}
    return History(path, label, columns, records[-1].weight_histogram)


def _column(path: Path, records: Sequence[EpochRecord], name: str) -> Values:
    try:
        values = np.array([getattr(record, name) for record in records], np.float64)
    except (TypeError, ValueError):
        values = np.empty(())
    if values.ndim != 1:
        raise UserError(f"{path}: {name} is no row of numbers; expected history.h5 of `train`.")
    return np.where(np.isfinite(values), values, np.nan)
