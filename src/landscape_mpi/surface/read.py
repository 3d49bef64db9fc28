"""Reads a surface file, finished or not, ours or another tool's, as plain arrays; says how wide its error bars are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.registry import BAR, SIZE, USED, WITHIN, axes_of, is_count, is_result, parse
from landscape_mpi.sampling import relative_bars
from landscape_mpi.surface.foreign import loss_landscape
from landscape_mpi.surface.foreign.landscaper import ARCHIVE, read_landscaper
from landscape_mpi.surface.foreign.losscape import is_losscape, read_losscape
from landscape_mpi.surface.platforms import read_platforms
from landscape_mpi.surface.schema import (
    AUDIT_SIZES,
    CENTRE,
    DONE,
    FAILED,
    LETTERS,
    NOT_YET,
    SAMPLING_ERROR,
    SAMPLING_FLOOR,
    SAMPLING_OF,
    AuditResult,
    check_schema,
)
from landscape_mpi.surface.training import Trajectory, on_slice, read_trajectory

_BOOKKEEPING = {
    *(f"{letter}coordinates" for letter in LETTERS),
    *("job", "status", "complete"),
    *("seconds", "rank", "error", "audit", "rounds", "finished"),
    *WITHIN,
}

KINDS = ("line", "plane", "volume")
"""What a surface is called, by its number of axes."""
Kind = tuple[np.dtype[Any], tuple[int, ...] | None]
"""The dtype and the shape; the shape is None for a dataset without any values."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The results of one sweep over a line, a plane or a volume, and where they came from.

    Attributes:
        path: the file it was read from.
        axes: float64 coordinates along alpha, beta, ...
        metrics: float64 [..., ny, nx] by name, the last index along alpha; losses in nats, accuracies in percent; NaN
            wherever the point is not done. NaN and inf are results as well.
        status: uint8 of the same shape: 0 not yet, 1 done, 2 failed.
        attributes: the attributes of the file's root; empty in files of other tools.
        job: the job file, verbatim; None in files of other tools.
        sealed: whether the sweep has come to its end; where examples are sampled, estimates change until then.
        audit: what an audit of the error bars found; None where there was none.
        kinds: dtype and shape of every dataset at the root, by name.
        trajectory: the path of a training run on the plane; None where the file has none.
        platforms: how many of the points that are done each platform has computed, by its text.
        unsound: how many points the file marks as done that nobody can have computed; they count as not done.
        gamma: where a plane lies that was taken from a volume; None for every other surface.
        arrays: float64 [..., ny, nx, ...] by name, of results that are several numbers per point; NaN as in `metrics`.
    """

    path: Path
    axes: tuple[NDArray[np.float64], ...]
    metrics: Mapping[str, NDArray[np.float64]]
    status: NDArray[np.uint8]
    attributes: Mapping[str, object]
    job: str | None
    sealed: bool = True
    audit: AuditResult | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    trajectory: Trajectory | None = None
    unsound: int = 0
    platforms: Mapping[str, int] = field(default_factory=dict)
    gamma: float | None = None
    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Coordinates along delta, float64 [nx]."""
        return self.axes[0]

    @property
    def beta(self) -> NDArray[np.float64] | None:
        """Coordinates along eta, float64 [ny]; None on a line."""
        return self.axes[1] if len(self.axes) > 1 else None

    @property
    def shape(self) -> tuple[int, ...]:
        """(nx,) of a line, (ny, nx) of a plane, (nz, ny, nx) of a volume."""
        return self.status.shape

    @property
    def kind(self) -> str:
        """`line`, `plane` or `volume`."""
        return KINDS[len(self.axes) - 1]

    @property
    def is_line(self) -> bool:
        """Whether there is no beta."""
        return len(self.axes) == 1

    def at(self, gamma: float) -> "Surface":
        """Return the plane of a volume at the coordinate along its third axis that is nearest to `gamma`.

        The path of a training run is projected onto it.

        Raises:
            UserError: this is no volume, or `gamma` is outside it.
        """
        if len(self.axes) < 3:
            raise UserError(self.path, f"is a {self.kind}", expected="a volume, which has a gamma to choose")
        third = self.axes[2]
        if not third.min() <= gamma <= third.max():
            raise UserError("gamma", f"found {gamma:g}", expected=f"{third.min():g} to {third.max():g}")
        place = int(np.abs(third - gamma).argmin())
        return replace(
            self,
            axes=self.axes[:2],
            metrics={name: values[place] for name, values in self.metrics.items()},
            arrays={name: values[place] for name, values in self.arrays.items()},
            status=self.status[place],
            trajectory=self.trajectory and on_slice(self.trajectory, float(third[place]), self.attributes),
            gamma=float(third[place]),
        )

    @property
    def within(self) -> dict[str, int]:
        """The sizes, by name, of the axes that results of several numbers per point have besides those of the grid."""
        sizes = ((axes_of(name), values.shape[self.status.ndim :]) for name, values in self.arrays.items())
        return {axis: size for axes, shape in sizes for axis, size in zip(axes, shape, strict=True)}

    @property
    def precision_floor(self) -> float | None:
        """The |f - f(0, 0)| below which rounding decides, in the unit of the loss; None where it was not measured."""
        floor = self.attributes.get("precision_floor")
        return floor if isinstance(floor, float) and math.isfinite(floor) and floor >= 0 else None

    @property
    def points(self) -> int:
        """The number of points of the grid."""
        return self.status.size

    @property
    def done(self) -> int:
        """The number of points that are done."""
        return int(np.count_nonzero(self.status == DONE))

    @property
    def failed(self) -> int:
        """The number of points that failed."""
        return int(np.count_nonzero(self.status == FAILED))

    @property
    def sampled(self) -> bool:
        """Whether points were evaluated on only some of the examples, with error bars."""
        return any(map(is_count, self.metrics))

    @property
    def filled(self) -> bool:
        """Whether every point has a result."""
        return self.done == self.points

    @property
    def complete(self) -> bool:
        """Whether every point has its final result."""
        return self.filled and (self.sealed or not self.sampled)


def read_surface(path: Path) -> Surface:
    """Read a surface of ours, also while it is being written, or of tomgoldstein/loss-landscape, losscape, landscaper.

    Raises:
        UserError: the file is missing, no HDF5 file, no surface, contradicts itself, or points at other files.
    """
    return isolated([path], read_own, path)


def read_own(path: Path) -> Surface:
    """Read a surface in this process, which has just written it; raise as `read_surface` does."""
    if path.suffix.lower() == ARCHIVE:
        alpha, beta, losses = read_landscaper(path)
        return _of_losses(path, alpha, beta, {"loss": losses})
    with untrusted.open_file(path) as file:
        datasets = untrusted.datasets(file)
        if is_losscape(datasets):
            alpha, beta, losses = read_losscape(datasets)
            return _of_losses(path, alpha, beta, {"train_loss": losses})
        if "xcoordinates" not in datasets:
            raise UserError(path, "expected a surface, found no xcoordinates in it")
        coordinates = [f"{letter}coordinates" for letter in LETTERS]
        axes = tuple(
            _axis(untrusted.numbers(datasets[name]), name, path)
            for name in takewhile(datasets.__contains__, coordinates)
        )
        shape = tuple(axis.size for axis in reversed(axes))
        if math.prod(shape) > untrusted.MAX_VALUES:
            raise UserError(path, f"a grid of {shape} points", expected=f"at most {untrusted.MAX_VALUES} of them")
        attributes = untrusted.attributes(file)
        if "schema" in attributes:
            check_schema(path, attributes["schema"])
        unsound = 0
        if loss_landscape.is_loss_landscape(file):
            metrics, status = loss_landscape.read_results(datasets, shape)
        else:
            metrics, status, unsound = read_results(datasets, shape)
        if not metrics:
            raise UserError(path, "expected a surface, found no losses, accuracies or eigenvalues in it")
        platforms = read_platforms(file, shape)
        return Surface(
            path=path,
            axes=axes,
            metrics=metrics,
            status=status,
            attributes=attributes,
            job=untrusted.text(datasets["job"]) if "job" in datasets else None,
            sealed="complete" not in datasets or bool(_scalars(datasets["complete"], 1)[0]),
            audit=_audit(datasets["audit"]) if "audit" in datasets else None,
            kinds={name: (np.dtype(dataset.dtype), dataset.shape) for name, dataset in datasets.items()},
            trajectory=read_trajectory(file),
            unsound=unsound,
            platforms=platforms.counts(status == DONE) if platforms else {},
            arrays=read_arrays(datasets, status),
        )


def _of_losses(
    path: Path, alpha: NDArray[np.float64], beta: NDArray[np.float64] | None, metrics: dict[str, NDArray[np.float64]]
) -> Surface:
    """Return the surface of a file without a status: every point is done."""
    axes = [_axis(alpha, "the first coordinate", path)]
    if beta is not None:
        axes.append(_axis(beta, "the second coordinate", path))
    (losses,) = metrics.values()
    return Surface(path, tuple(axes), metrics, np.full(losses.shape, DONE, np.uint8), {}, None)


def _axis(values: NDArray[Any], name: str, path: Path) -> NDArray[np.float64]:
    axis = values.astype(np.float64)
    steps = np.diff(axis) if axis.ndim == 1 else np.zeros(1)
    if axis.size == 0 or not np.isfinite(axis).all() or not ((steps > 0).all() or (steps < 0).all()):
        raise UserError(path, f"{name} is not a row of finite numbers in ascending or descending order")
    return axis


def read_results(
    datasets: Mapping[str, h5py.Dataset], shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.uint8], int]:
    """Read metrics and status of a file of our own schema, and how many points are marked as done but cannot be.

    Raises:
        UserError: there is no status, or a dataset does not have the shape of the grid.
    """
    if "status" not in datasets:
        raise UserError(datasets["xcoordinates"].file.filename, "expected a surface, found no status in it")
    # A rank writes its values first and its status last. They are read in reverse, so that "done" is never too early.
    status = _fitting(datasets["status"], shape).astype(np.uint8)
    found = {
        name: _fitting(dataset, shape)
        for name, dataset in datasets.items()
        if name not in _BOOKKEEPING and untrusted.is_number(dataset) and (dataset.shape == shape or is_result(name))
        if not axes_of(name)
    }
    unsound = (status == DONE) & _without_numbers(datasets, found, shape)
    status[unsound] = NOT_YET
    metrics = {name: np.where(status == DONE, values, np.nan) for name, values in found.items()}
    return metrics, status, int(unsound.sum())


def read_arrays(datasets: Mapping[str, h5py.Dataset], status: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Read results that are several numbers per point, NaN where `status` is not 1.

    Raises:
        UserError: a result does not have the axes of the grid and its own, or two results have axes of one name but of
            different sizes.
    """
    arrays, sizes = {}, dict[str, int]()
    for name, dataset in datasets.items():
        if axes := axes_of(name):
            within = dataset.shape[status.ndim :]
            expected = (*status.shape, *(sizes.setdefault(axis, n) for axis, n in zip(axes, within, strict=False)))
            if len(within) != len(axes) or dataset.shape != expected:
                raise UserError(
                    dataset.file.filename,
                    f"{name} has shape {dataset.shape}",
                    expected=f"the grid's {status.shape} and then {', '.join(axes)}, as many as elsewhere",
                )
            values = untrusted.numbers(dataset).astype(np.float64)
            values[status != DONE] = np.nan
            arrays[name] = values
    return arrays


def _without_numbers(
    datasets: Mapping[str, h5py.Dataset], metrics: Mapping[str, NDArray[Any]], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return where no rank can have computed a point, as after a power cut, in a torn copy or by a flipped bit.

    Losses may be NaN at a point that was computed; its seconds, rank, accuracies and numbers of examples are not. Where
    examples are sampled, seconds and ranks are those of the last run alone.
    """
    found = np.zeros(shape, np.bool_)
    counts = [values for name, values in metrics.items() if is_count(name)]
    for values in counts:
        found |= values <= 0
    for name in () if counts else ("seconds", "rank"):
        if name in datasets and untrusted.is_number(datasets[name]) and datasets[name].shape == shape:
            values = untrusted.numbers(datasets[name])
            found |= ~(np.isfinite(values) & (values >= 0))
    for name, values in metrics.items():
        if (parts := parse(name)) and not parts.result.wild and not parts.spread:
            found |= ~np.isfinite(values)
    return found


def _audit(dataset: h5py.Dataset) -> AuditResult | None:
    size = dataset.size if dataset.size in AUDIT_SIZES else AUDIT_SIZES[-1]
    points, misses, worst, passed, *others = _scalars(dataset, size).tolist()
    if not (math.isfinite(points) and math.isfinite(misses)):
        return None
    return AuditResult(int(points), int(misses), float(worst), passed == 1, *map(float, others))


def _scalars(dataset: h5py.Dataset, count: int) -> NDArray[Any]:
    values = untrusted.numbers(dataset)
    if values.size != count:
        raise UserError(dataset.file.filename, f"{dataset.name[1:]} has {values.size} values", expected=str(count))
    return values.ravel()


def _fitting(dataset: h5py.Dataset, shape: tuple[int, ...]) -> NDArray[Any]:
    values = untrusted.numbers(dataset)
    if values.shape != shape:
        raise UserError(
            dataset.file.filename,
            f"{dataset.name[1:]} has shape {values.shape}, which does not fit the coordinates (expected {shape})",
        )
    return values


def has_bars(surface: Surface, metric: str) -> bool:
    """Return whether a metric has error bars."""
    return metric + BAR in surface.metrics and metric in surface.metrics


def relative(surface: Surface, metric: str) -> NDArray[np.float64]:
    """Return a metric's 95 % error bars in percent of its values [ny, nx] or [nx]; NaN where there is no such share.

    A bar of 0, on all examples, is 0 % of any value. Where the sweep's bars are of the rise, the bars of a loss are in
    percent of the rise. A rise counts as at least the narrowest bar that was asked for, divided by the target.
    """
    means, bars = surface.metrics[metric], surface.metrics[metric + BAR]
    centre, least = rise_scale(surface, metric) or (0.0, 0.0)
    shares = relative_bars(means.ravel() - centre, bars.ravel(), least).reshape(means.shape)
    return np.where(bars == 0, 0.0, np.where(np.isfinite(shares), 100.0 * shares, np.nan))


def rise_scale(surface: Surface, metric: str) -> tuple[float, float] | None:
    """Return f(0, 0) and the rise as which smaller rises count; None where bars are not relative to a rise."""
    recorded, name = surface.attributes, parse(metric)
    if recorded.get(SAMPLING_OF) != "rise" or name is None or name.result not in LOSS.results:
        return None
    found = [recorded.get(key) for key in (f"{name.split}{CENTRE}", SAMPLING_FLOOR, SAMPLING_ERROR)]
    centre, floor, error = (float(one) if isinstance(one, int | float) else math.nan for one in found)
    if not (math.isfinite(centre) and math.isfinite(floor) and error > 0):
        return None
    return centre, floor * abs(centre) / error


def rise_words(surface: Surface, metric: str) -> str:
    """Return what bars are relative to, where that is a rise, to be put after a percentage; else nothing."""
    if rise_scale(surface, metric) is None:
        return ""
    floor = float(str(surface.attributes[SAMPLING_FLOOR]))
    return " of the rise above f(0, 0)" + (f", or {100 * floor:.3g} % of f(0, 0)" if floor else "")


def in_points(metric: str) -> bool:
    """Return whether a metric is in percent, so that its error bars are in points."""
    name = parse(metric)
    return name is not None and not name.spread and name.result.unit == "%"


def widest(surface: Surface, metric: str) -> float:
    """Return a metric's largest bar: in points where it is in percent, else in percent of the value; NaN if none."""
    bars = surface.metrics[metric + BAR] if in_points(metric) else relative(surface, metric)
    finite = bars[np.isfinite(bars)]
    return float(finite.max()) if finite.size else math.nan


def share_used(surface: Surface) -> float | None:
    """Return the evaluations used for the points as a share of a full sweep's; None where that is unknown."""
    used, full = 0.0, 0.0
    for name, counts in surface.metrics.items():
        found = parse(name)
        size = surface.attributes.get(f"{found.split}{SIZE}") if found and found.result is USED else None
        if isinstance(size, int):
            used += float(counts[surface.status == DONE].sum())
            full += float(size * surface.points)
    return used / full if full else None
