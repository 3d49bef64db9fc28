"""Picks one metric of a surface with its name in words, its error bars and its gaps, and interpolates it.

Points are visited coarse to fine, so the done ones are scattered over the plane. They are triangulated on the index
grid; a point not done yet takes its value from the triangle around it. Nothing is invented outside the triangles, or
where a corner of the triangle is NaN or inf: those places stay gaps.
"""

import difflib
import math
from dataclasses import dataclass

import numpy as np
from matplotlib.tri import LinearTriInterpolator, Triangulation
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.registry import BAR, METRICS, RELATIVE, STDERR, in_schema, is_mean, parse
from landscape_mpi.plot.origin import Origin, origin_of
from landscape_mpi.surface.read import Surface, has_bars, relative, widest
from landscape_mpi.surface.schema import DONE, SCHEMA

Values = NDArray[np.float64]
_SPLITS = {"train": "training"}
RATIO = "eig_ratio"
"""The ratio of the Hessian's extreme eigenvalues, which is in no file."""
_RATIO_WORDS = r"$|\lambda_\mathrm{min} / \lambda_\mathrm{max}|$"
_SEEN = 1e-3
"""The share of a picture's height that can be seen."""
CURVATURE = {result.name: metric.key for metric in METRICS if metric.needs == "gradients" for result in metric.results}
CURVATURE[RATIO] = CURVATURE["min_eig"]
"""What is computed from the Hessian: names of results, and the metric that each belongs to."""


@dataclass(frozen=True)
class Quantity:
    """A metric in words.

    Attributes:
        metric: its name in the file.
        words: such as "training loss".
        unit: nats, % or nothing.
        split: train, test, ...; None where it is of no split.
    """

    metric: str
    words: str
    unit: str = ""
    split: str | None = None

    @property
    def label(self) -> str:
        """The label of an axis: words and unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def split_words(self) -> str | None:
        """The split in words, such as "training"; None where it is of no split."""
        return self.split and _SPLITS.get(self.split, self.split)

    @property
    def general(self) -> str:
        """The words without the split, such as "loss"."""
        return self.words.replace(f"{self.split_words} ", "", 1) if self.split else self.words


def quantity(metric: str, *, nats: bool) -> Quantity:
    """Return what a metric means.

    Args:
        metric: its name in the file, such as test_acc_stderr.
        nats: whether the loss is a cross entropy, which has a unit; other losses have none.
    """
    name = parse(metric)
    if name is None:
        return Quantity(metric, _RATIO_WORDS if metric == RATIO else metric.replace("_", " "))
    unit = "" if name.result.unit == "nats" and not nats else name.result.unit
    split = "" if name.split is None else f"{_SPLITS.get(name.split, name.split)} "
    words = f"{name.spread_words}{split}{name.result.words}"
    return Quantity(metric, words, "%" if name.spread == RELATIVE else unit, name.split)


def is_shown(metric: str) -> bool:
    """Return whether a metric is drawn along a line and named in captions without being asked for."""
    name = parse(metric)
    return name is not None and not name.spread and name.result.shown


def has_ratio(surface: Surface) -> bool:
    """Return whether a surface holds the smallest and the largest eigenvalue of the Hessian."""
    return "min_eig" in surface.metrics and "max_eig" in surface.metrics


def ratio(surface: Surface) -> NDArray[np.float64]:
    """Return |lambda_min / lambda_max| (Li et al., section 6) at every point, the shape of the surface.

    NaN where nothing is done, inf where lambda_max is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(surface.metrics["min_eig"] / surface.metrics["max_eig"])


@dataclass(frozen=True, eq=False)
class Field:
    """One metric of one surface.

    Attributes:
        surface: what the metric belongs to.
        origin: where the surface came from.
        quantity: what the metric is.
        values: float64 [ny, nx] or [nx]; NaN where there is no finite result.
        done: bool of the same shape, where there is a result, finite or not.
        bars: float64 of the same shape, 95 % error bars in the unit of the values; None where there are none.
        widest: the largest of them, relative in percent for a loss, in points for an accuracy; NaN without any.
        infinite: how many results are inf.
        undefined: how many results are NaN.
    """

    surface: Surface
    origin: Origin
    quantity: Quantity
    values: NDArray[np.float64]
    done: NDArray[np.bool_]
    bars: NDArray[np.float64] | None
    widest: float
    infinite: int
    undefined: int

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Coordinates along delta, [nx]."""
        return self.surface.alpha

    @property
    def beta(self) -> NDArray[np.float64]:
        """Coordinates along eta, [ny]; a line has the one coordinate 0."""
        return np.zeros(1) if self.surface.beta is None else self.surface.beta

    @property
    def has_origin(self) -> bool:
        """Whether (0, 0) is theta*: not on a plane of a volume at another gamma than 0."""
        return not self.surface.gamma

    @property
    def centre(self) -> float | None:
        """The result at theta*; None where no point of a line or plane is there, or it is not finite."""
        places = [np.flatnonzero(at == 0) for at in self.surface.axes]
        if not (self.has_origin and all(map(len, places))):
            return None
        value = float(self.values[tuple(int(place[0]) for place in reversed(places))])
        return value if math.isfinite(value) else None

    @property
    def errors(self) -> NDArray[np.float64] | None:
        """The standard errors of an estimate of the whole network, such as a trace, the shape of the values."""
        name = parse(self.quantity.metric)
        known = name is not None and name.split is None
        return self.surface.metrics.get(self.quantity.metric + STDERR) if known else None

    @property
    def floor(self) -> float | None:
        """The |f - f(0, 0)| of a loss below which rounding decides; None where that is not known or cannot be seen.

        It can be seen above a thousandth of the range of the results, or above a hundredth of f(0, 0), as on a log
        scale. In precisions below float32 it always counts as seen.
        """
        floor = self.surface.precision_floor
        if floor is None or not is_mean(self.quantity.metric, LOSS):
            return None
        reduced = self.surface.attributes.get("dtype") not in ("float32", "float64")
        seen = floor > _SEEN * float(np.ptp(self.finite)) or floor > 10 * _SEEN * abs(self.centre or math.inf)
        return floor if reduced or seen else None

    @property
    def finite(self) -> NDArray[np.float64]:
        """The finite results, flat."""
        return self.values[np.isfinite(self.values)]


def field_of(surface: Surface, metric: str | None = None) -> Field:
    """Return one metric of a surface.

    Args:
        surface: what was read.
        metric: its name; if it is left out, train_loss, else the first loss, else the first metric. Each metric in
            the file that has error bars also has NAME_relbar: the bars in percent of the values. Surfaces with both
            ends of the Hessian's spectrum also have eig_ratio.

    Raises:
        UserError: the surface has no such metric, or nothing to draw in it.
    """
    name = metric or default_metric(surface)
    names = [*surface.metrics, *(each + RELATIVE for each in surface.metrics if has_bars(surface, each))]
    names += [RATIO] if has_ratio(surface) else []
    # train_images of schema 1 and train_examples are one metric, under whichever name it is in the file
    name = next((same for same in (name, in_schema(name, 1), in_schema(name, SCHEMA)) if same in names), name)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        raise UserError(Flag("metric"), f"{surface.path} has no {name}{hint}", remedy=f"it has {listed}")
    if name in surface.metrics:
        results = surface.metrics[name]
    else:
        results = ratio(surface) if name == RATIO else relative(surface, name.removesuffix(RELATIVE))
    done, origin, barred = surface.status == DONE, origin_of(surface), has_bars(surface, name)
    where = "" if surface.gamma is None else f" at gamma = {surface.gamma:g}"
    if not done.any():
        raise UserError(surface.path, f"nothing to draw yet{where}: 0 of {surface.points} points are done")
    if not np.isfinite(results).any():
        raise UserError(
            surface.path, f"nothing to draw{where}: {name} is NaN or inf at all {surface.done} points that are done"
        )
    return Field(
        surface,
        origin,
        quantity(in_schema(name, SCHEMA), nats=origin.loss in ("cross_entropy", "next_token")),
        np.where(np.isfinite(results), results, np.nan),
        done,
        bars=surface.metrics[name + BAR] if barred else None,
        widest=widest(surface, name) if barred else math.nan,
        infinite=int(np.isinf(results).sum()),
        undefined=int((np.isnan(results) & done).sum()),
    )


def default_metric(surface: Surface) -> str:
    """Return train_loss where it is there, else the first loss, else the first metric."""
    names = list(surface.metrics)
    losses = [name for name in names if is_mean(name, LOSS)]
    return "train_loss" if "train_loss" in losses else (losses or names)[0]


def linear(field: Field) -> Values:
    """Return the values [ny, nx], or [nx] of a line, with the missing ones interpolated linearly.

    Raises:
        UserError: too few points of a plane are done to span an area.
    """
    if field.surface.filled:
        return field.values
    if field.surface.is_line:
        places = np.arange(field.alpha.size)
        straight = np.interp(places, places[field.done], field.values[field.done], left=np.nan, right=np.nan)
        return np.where(field.done, field.values, straight)
    mesh = _triangulate(field)
    known = field.values[field.done]
    mesh.set_mask(np.isnan(known[mesh.triangles]).any(axis=1))
    rows, columns = np.nonzero(~field.done)
    found = LinearTriInterpolator(mesh, np.nan_to_num(known))(columns, rows)
    return _filled(field, np.ma.filled(found, np.nan))


def nearest(field: Field) -> Values:
    """Return the values [ny, nx], where a missing value is that of the nearest corner of its triangle.

    Where the points are too few for a triangle, missing values stay missing.
    """
    if field.surface.filled:
        return field.values
    try:
        mesh = _triangulate(field)
    except UserError:
        return field.values
    rows, columns = np.nonzero(~field.done)
    triangle = np.atleast_1d(mesh.get_trifinder()(columns, rows))
    corners = mesh.triangles[triangle]
    distances = np.hypot(mesh.x[corners] - columns[:, None], mesh.y[corners] - rows[:, None])
    corner = corners[np.arange(len(corners)), distances.argmin(axis=1)]
    return _filled(field, np.where(triangle >= 0, field.values[field.done][corner], np.nan))


def _filled(field: Field, missing: Values) -> Values:
    values = field.values.copy()
    values[~field.done] = missing
    return values


def _triangulate(field: Field) -> Triangulation:
    """Triangulate the done points on the index grid (x: column, y: row), without flat triangles."""
    rows, columns = np.nonzero(field.done)
    # fewer than three, or all in a row
    if rows.size < 3 or np.linalg.matrix_rank(np.stack([rows - rows[0], columns - columns[0]])) < 2:
        raise UserError(
            field.surface.path,
            (
                f"too early for this picture: the {field.surface.done} of {field.surface.points} points that are done "
                "span no area yet"
            ),
            remedy=(Flag("kind", ("heat",)), " shows them"),
        )
    mesh = Triangulation(columns, rows)
    x, y = mesh.x[mesh.triangles], mesh.y[mesh.triangles]
    twice_area = np.abs((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0]))
    return Triangulation(mesh.x, mesh.y, mesh.triangles[twice_area > 0.5])


def between(heights: Values, field: Field, x: Values, y: Values) -> Values:
    """Interpolate heights [ny, nx] bilinearly at some places; NaN beyond the grid and beside a gap."""
    column, row = _index(field.alpha, x), _index(field.beta, y)
    known = np.isfinite(column) & np.isfinite(row)
    left = np.clip(np.floor(column[known]), 0, field.alpha.size - 2).astype(int)
    low = np.clip(np.floor(row[known]), 0, field.beta.size - 2).astype(int)
    across, up = column[known] - left, row[known] - low
    below = heights[low, left] * (1 - across) + heights[low, left + 1] * across
    above = heights[low + 1, left] * (1 - across) + heights[low + 1, left + 1] * across
    found = np.full(x.shape, np.nan)
    found[known] = below * (1 - up) + above * up
    return found


def _index(axis: Values, values: Values) -> Values:
    """Return where values lie on an axis, ascending or descending, in steps from its first coordinate; NaN beyond."""
    sign = 1.0 if axis[-1] > axis[0] else -1.0
    return np.interp(sign * values, sign * axis, np.arange(axis.size), left=np.nan, right=np.nan)
