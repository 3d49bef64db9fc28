"""Reads and writes what is kept of a training run: its history, and its path on a plane.

The history is a file of its own, a row per checkpoint; the path is `/trajectory` of a surface file, with the same
columns where they are known.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.atomic import atomic_write, reason
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.isolated import isolated
from landscape_mpi.job import AXES

EDGES: NDArray[np.float64] = np.concatenate([[-np.inf], np.arange(-1024, 1025) / 1024, [np.inf]])
"""Where the bins of the histograms of weights begin and end: the same in every file, 1/1024 wide on [-1, 1]."""
GROUP = "trajectory"
EXPLAINED = "explained_variance_ratio"
RUN, NAMES = "run", "runs"
_PATH_COLUMNS = ("residual", "epoch", "train_loss", "lr")
Values = NDArray[np.float64]


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
    """Write one dataset per field, a row per record, and `weight_edges`; the file is replaced whole.

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
    """Return the rows of a history file; files of older versions lack the columns that were added later.

    Raises:
        UserError: The file is missing or is no history.
    """
    try:
        return isolated([path], _rows, path)
    except (UserError, KeyError, TypeError, ValueError) as error:
        # without the name of the file, because the sentence begins with it
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


def learning_rate_drops(lr: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the last row before each decrease of the learning rate, in ascending order; rows of NaN do not count."""
    known = np.flatnonzero(np.isfinite(lr))
    before: NDArray[np.intp] = known[:-1][np.diff(lr[known]) < 0]
    return before


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Checkpoints of a run, in its order, projected onto a plane or a line.

    Each column is float64 [n], except `epoch` and `run`.

    The checkpoints of several runs follow one run after the other.

    Attributes:
        coordinates: least-squares coordinates along each direction: alpha, beta, ...
        residual: distance from the plane, over the parameters that it moves.
        epoch: int64, from the file's name.
        train_loss: from the history beside the checkpoints; NaN where there is none.
        lr: learning rate of the epoch that ended there; NaN where it is not known.
        explained: shares of the variance that the components have; empty where the plane is not made of components.
        run: int64 [n], the number of each checkpoint's run; None where there is one run.
        names: of the runs, where there are several.
    """

    coordinates: tuple[Values, ...]
    residual: Values
    epoch: NDArray[np.int64]
    train_loss: Values
    lr: Values
    explained: tuple[float, ...] = field(default=())
    run: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()

    @property
    def alpha(self) -> Values:
        """Coordinates along delta."""
        return self.coordinates[0]

    @property
    def beta(self) -> Values | None:
        """Coordinates along eta; None on a line."""
        return self.coordinates[1] if len(self.coordinates) > 1 else None

    @property
    def runs(self) -> "list[Trajectory]":
        """Each run as a path of its own, in the order of their names."""
        if self.run is None:
            return [self]
        found = []
        for number, name in enumerate(self.names):
            mine = self.run == number
            rows: dict[str, Any] = {column: getattr(self, column)[mine] for column in _PATH_COLUMNS}
            rows["coordinates"] = tuple(values[mine] for values in self.coordinates)
            found.append(replace(self, **rows, run=None, names=(name,)))
        return found

    @property
    def drops(self) -> NDArray[np.intp]:
        """Checkpoints after which the learning rate dropped, as `learning_rate_drops` finds them."""
        return learning_rate_drops(self.lr)


def on_slice(path: Trajectory, gamma: float, attributes: Mapping[str, object]) -> Trajectory | None:
    """Return the path through a volume as projected onto the volume's plane at a gamma; None where that is unknown.

    A checkpoint is theta* + a delta + b eta + c zeta + r, with r orthogonal to all three. It differs from the plane at
    gamma by (c - gamma) zeta + r. The part of zeta along delta and eta moves its coordinates on the plane; the rest
    changes its distance from the plane. A projection by least squares stays a projection by least squares.

    Args:
        path: with coordinates along three directions.
        gamma: where the plane lies.
        attributes: of the surface, with the lengths of the directions and the cosines of the angles between them.
    """
    names = ("delta_norm", "eta_norm", "zeta_norm", "cosine", "cosine_13", "cosine_23")
    numbers = [value for name in names if isinstance(value := attributes.get(name), float) and math.isfinite(value)]
    if len(path.coordinates) < 3 or len(numbers) < len(names):
        return None
    delta, eta, zeta, *cosines = numbers
    products = np.array([[delta * delta, delta * eta * cosines[0]], [delta * eta * cosines[0], eta * eta]])
    along = np.array([delta * zeta * cosines[1], eta * zeta * cosines[2]])  # products of zeta with delta and with eta
    share = np.linalg.lstsq(products, along)[0]
    height = math.sqrt(max(zeta * zeta - float(along @ share), 0.0))
    a, b, c = path.coordinates
    away = c - gamma
    return replace(
        path,
        coordinates=(a + away * share[0], b + away * share[1]),
        residual=np.hypot(path.residual, away * height),
        explained=path.explained[:2],
    )


def joined(runs: Sequence[Trajectory], names: Sequence[str]) -> Trajectory:
    """Return the paths of several runs as one; `Trajectory.runs` separates them again."""
    columns: dict[str, Any] = {
        column: np.concatenate([getattr(run, column) for run in runs]) for column in _PATH_COLUMNS
    }
    columns["coordinates"] = tuple(map(np.concatenate, zip(*(run.coordinates for run in runs), strict=True)))
    number = np.repeat(np.arange(len(runs)), [run.alpha.size for run in runs])
    return replace(runs[0], **columns, run=number, names=tuple(names))


def write_trajectory(file: h5py.File, trajectory: Trajectory) -> None:
    """Write the group `/trajectory`, one dataset per column."""
    group = file.create_group(GROUP)
    for name, values in zip(AXES, trajectory.coordinates, strict=False):
        group.create_dataset(name, data=values)
    for name in _PATH_COLUMNS:
        group.create_dataset(name, data=getattr(trajectory, name))
    if trajectory.run is not None:
        group.create_dataset(RUN, data=trajectory.run)
        group.attrs[NAMES] = np.array([name.encode() for name in trajectory.names], "S")
    if trajectory.explained:
        group.attrs[EXPLAINED] = np.array(trajectory.explained)


def read_trajectory(file: h5py.File) -> Trajectory | None:
    """Return the path that a file holds; None where it holds none.

    Raises:
        UserError: it is not what `write_trajectory` writes.
    """
    if GROUP not in file:
        return None
    group = file.get(GROUP)
    if not isinstance(group, h5py.Group) or not isinstance(file.get(GROUP, getlink=True), h5py.HardLink):
        raise UserError(file.filename, f"`{GROUP}` is no group of its own", expected="the columns of a path in it")
    found = untrusted.datasets(group)
    every = (*AXES, *_PATH_COLUMNS)
    columns = {name: untrusted.numbers(found[name]).astype(np.float64) for name in every if name in found}
    missing = {AXES[0], *_PATH_COLUMNS} - set(columns)
    shapes = {values.shape for values in columns.values()}
    if missing or len(shapes) != 1 or len(shapes.pop()) != 1:
        raise UserError(file.filename, f"`{GROUP}` does not hold columns of one length", expected=", ".join(every))
    explained = np.atleast_1d(group.attrs.get(EXPLAINED, ()))
    coordinates = tuple(columns[name] for name in takewhile(columns.__contains__, AXES))
    return Trajectory(
        coordinates=coordinates,
        residual=columns["residual"],
        epoch=columns["epoch"].astype(np.int64),
        train_loss=columns["train_loss"],
        lr=columns["lr"],
        explained=tuple(map(float, explained.ravel()[: len(coordinates)])) if explained.dtype.kind == "f" else (),
        **_runs(group, found, columns["alpha"].size),
    )


def _runs(group: h5py.Group, found: Mapping[str, h5py.Dataset], size: int) -> dict[str, Any]:
    """Return to which run each checkpoint belongs, and the runs' names, where the file says so.

    Raises:
        UserError: it contradicts itself.
    """
    if RUN not in found:
        return {}
    held = np.atleast_1d(group.attrs.get(NAMES, ())).ravel().tolist()
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in held]
    run = untrusted.numbers(found[RUN])
    if run.dtype.kind not in "iu" or run.shape != (size,) or not set(run.tolist()) == set(range(len(names))):
        raise UserError(
            group.file.filename,
            f"`{GROUP}/{RUN}` does not number {len(names)} runs of {size} checkpoints",
            expected="each of them, from 0",
        )
    return {"run": run.astype(np.int64), "names": tuple(names)}
