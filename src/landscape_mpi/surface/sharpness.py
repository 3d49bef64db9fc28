"""Measures how sharp, wide, asymmetric and rough a landscape is, from arrays alone.

docs/sharpness.md has the formulas in words. A number that cannot be known is NaN.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Values = NDArray[np.float64]

ABOVE = 1.0
"""How far above f(0, 0) the level of `radius_above` and `area_above` lies: a nat, where the loss is a cross entropy."""
ROUNDING = 1e-6
"""The relative error of a loss in float32; a negative curvature within this error does not count."""
_SAME = 1e-6
"""Coordinates that differ by less than this share of a step are the same."""
_HUGE = 1e100
"""The value that NaN and inf count as where f is compared with a level; its square is finite too."""


@dataclass(frozen=True)
class Sharpness:
    """The numbers of one loss; a number that cannot be known is NaN.

    Attributes:
        centre: f(0, 0).
        curvature_alpha: second derivative along alpha at (0, 0), in the unit of the loss per alpha squared.
        curvature_beta: along beta; NaN on a line.
        radius_doubled: distance from (0, 0) to the nearest place where f = 2 f(0, 0); inf: none on the grid.
        radius_above: distance from (0, 0) to the nearest place where f = f(0, 0) + ABOVE; inf: none on the grid.
        area_above: share of the grid's area (length of a line) where f < f(0, 0) + ABOVE, 0 to 1.
        asymmetry: mean of |f(p) - f(-p)| / (|f(p)| + |f(-p)|) over the pairs of points, 0 to 1.
        roughness: share of the inner points with a direction of negative curvature, 0 to 1.
        step: distance from (0, 0) to the nearest other point of the grid, below which no radius is resolved.
    """

    centre: float
    curvature_alpha: float
    curvature_beta: float
    radius_doubled: float = math.nan
    radius_above: float = math.nan
    area_above: float = math.nan
    asymmetry: float = math.nan
    roughness: float = math.nan
    step: float = math.nan


def sharpness(values: Values, alpha: Values, beta: Values | None, done: NDArray[np.bool_]) -> Sharpness:
    """Return the numbers of a loss.

    Args:
        values: float64 [ny, nx], [nx] on a line; NaN and inf are results.
        alpha: float64 [nx], ascending or descending.
        beta: float64 [ny]; None on a line.
        done: bool of the shape of values; f(0, 0) and the curvatures need a few points, the other numbers need all.
    """
    grid = np.where(done, values, np.nan).reshape(-1, alpha.size)
    rows = np.zeros(1) if beta is None else beta
    row, column = zero(rows), zero(alpha)
    centre = math.nan if row is None or column is None else float(grid[row, column])
    finite = np.where(np.isfinite(grid), grid, math.nan)
    known = Sharpness(
        centre,
        curvature_alpha=math.nan if row is None else curvature(finite[row], alpha, column),
        curvature_beta=math.nan if column is None else curvature(finite[:, column], rows, row),
        step=min((_step(axis, at) for axis, at in ((alpha, column), (rows, row)) if axis.size > 1), default=math.nan),
    )
    if not done.all():
        return known
    return replace(
        known,
        radius_doubled=radius(grid, alpha, rows, 2 * centre if centre > 0 else math.nan),
        radius_above=radius(grid, alpha, rows, centre + ABOVE),
        area_above=area(grid, alpha, rows, centre + ABOVE),
        asymmetry=asymmetry(finite, alpha, rows),
        roughness=roughness(finite, alpha, rows),
    )


def zero(axis: Values) -> int | None:
    """Return the index of the coordinate that is 0; None where there is none."""
    nearest = int(np.abs(axis).argmin())
    return nearest if abs(axis[nearest]) <= _tolerance(axis) else None


def curvature(values: Values, axis: Values, index: int | None) -> float:
    """Return the second difference of values [n] at one of their coordinates; NaN at an end."""
    if index is None or not 0 < index < axis.size - 1:
        return math.nan
    around = slice(index - 1, index + 2)
    return float(_second(values[around], axis[around])[0])


def _step(axis: Values, index: int | None) -> float:
    """Return the shorter step from a coordinate to its neighbours."""
    if index is None:
        return math.nan
    return float(np.abs(np.delete(axis, index) - axis[index]).min())


def radius(grid: Values, alpha: Values, beta: Values, level: float) -> float:
    """Return the distance from (0, 0) to the nearest place on the lines of the grid where f has a level.

    Between neighbouring points f is linear. inf means that f has this level nowhere on the grid.
    """
    if not math.isfinite(level):
        return math.nan
    along = _crossings(_high(grid), alpha, level)
    across = _crossings(_high(grid).T, beta, level)
    distances = [np.hypot(along, beta[:, None]), np.hypot(across, alpha[:, None])]
    return min(float(each.min(initial=math.inf, where=~np.isnan(each))) for each in distances)


def area(grid: Values, alpha: Values, beta: Values, level: float) -> float:
    """Return the share of a plane's area, or of a line's length, where f lies below a level.

    Between points f is linear: along a line, or in the four triangles between the corners of a cell and their mean.
    """
    if not math.isfinite(level) or alpha.size < 2:
        return math.nan
    high = _high(grid)
    steps = np.abs(np.diff(alpha))
    if beta.size == 1:
        return float((_below([high[0, :-1], high[0, 1:]], level) * steps).sum() / steps.sum())
    corners = [high[:-1, :-1], high[:-1, 1:], high[1:, 1:], high[1:, :-1]]
    middle = (corners[0] + corners[1] + corners[2] + corners[3]) / 4
    triangles = [_below([corners[side], corners[side - 1], middle], level) for side in range(4)]
    cells = np.abs(np.diff(beta))[:, None] * steps
    return float((sum(triangles) / 4 * cells).sum() / cells.sum())


def asymmetry(grid: Values, alpha: Values, beta: Values) -> float:
    """Return the mean of |f(p) - f(-p)| / (|f(p)| + |f(-p)|) over the points whose mirror image is on the grid too.

    Points with NaN, and the points opposite them, are left out.
    """
    (rows, mirrored_rows), (columns, mirrored_columns) = _mirrored(beta), _mirrored(alpha)
    here, there = grid[np.ix_(rows, columns)], grid[np.ix_(mirrored_rows, mirrored_columns)]
    pair = ~np.isnan(here + there)
    pair &= (rows != mirrored_rows)[:, None] | (columns != mirrored_columns)
    difference, size = np.abs(here - there)[pair], (np.abs(here) + np.abs(there))[pair]
    return float((difference / np.where(size > 0, size, 1)).mean()) if pair.any() else math.nan


def roughness(grid: Values, alpha: Values, beta: Values) -> float:
    """Return the share of the inner points whose Hessian, by finite differences, has a negative eigenvalue.

    Points with NaN, and the points beside them, are left out.
    """
    if alpha.size < 3 or beta.size == 2:
        return math.nan
    if beta.size == 1:
        smallest = _second(grid, alpha)
        size = sliding_window_view(np.abs(grid), 3, axis=1).max(axis=-1)
        error = ROUNDING * size / _shorter(alpha) ** 2  # the value that rounding may give in place of 0
    else:
        xx, yy = _second(grid, alpha)[1:-1], _second(grid.T, beta).T[:, 1:-1]
        twist = (grid[2:, 2:] + grid[:-2, :-2]) - (grid[2:, :-2] + grid[:-2, 2:])
        xy = twist / np.outer(beta[2:] - beta[:-2], alpha[2:] - alpha[:-2])
        smallest = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)  # the smaller eigenvalue of each Hessian
        size = sliding_window_view(np.abs(grid), (3, 3)).max(axis=(2, 3))
        error = ROUNDING * size * (1 / _shorter(alpha) ** 2 + 1 / _shorter(beta)[:, None] ** 2)
    known = ~np.isnan(smallest)
    return float((smallest < -error)[known].mean()) if known.any() else math.nan


def _second(values: Values, axis: Values) -> Values:
    """Return second differences [..., n - 2] of values [..., n], exact for parabolas on any grid."""
    steps = np.diff(axis)
    slopes = np.diff(values) / steps
    return 2 * np.diff(slopes) / (steps[1:] + steps[:-1])


def _crossings(values: Values, axis: Values, level: float) -> Values:
    """Return where rows of values [m, n] pass a level between their coordinates, [m, n - 1]; NaN where they do not."""
    left, right = values[:, :-1], values[:, 1:]
    passes = (np.minimum(left, right) < level) & (level <= np.maximum(left, right))
    share = (level - left) / np.where(passes, right - left, 1)
    return np.where(passes, axis[:-1] + share * np.diff(axis), math.nan)


def _below(corners: list[Values], level: float) -> Values:
    """Return which share of each segment (two corners) or triangle (three) lies below a level, where f is linear."""
    low, *inner, high = np.sort(corners, axis=0)
    with np.errstate(all="ignore"):  # warnings from cases that do not apply
        if not inner:
            between = (level - low) / (high - low)
        else:
            under = (level - low) ** 2 / ((inner[0] - low) * (high - low))
            over = 1 - (high - level) ** 2 / ((high - inner[0]) * (high - low))
            between = np.where(level <= inner[0], under, over)
    return np.where(level <= low, 0.0, np.where(level > high, 1.0, between))


def _mirrored(axis: Values) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of the coordinates whose negative is a coordinate too, and the indices of the negatives."""
    order = np.argsort(axis)
    places = np.searchsorted(axis[order], -axis - _tolerance(axis)).clip(max=axis.size - 1)
    mirror = order[places]
    there = np.flatnonzero(np.abs(axis + axis[mirror]) <= _tolerance(axis))
    return there, mirror[there]


def _tolerance(axis: Values) -> float:
    return _SAME * float(np.abs(np.diff(axis)).min()) if axis.size > 1 else 0.0


def _shorter(axis: Values) -> Values:
    """Return the shorter of the steps beside each inner coordinate, [n - 2]."""
    steps = np.abs(np.diff(axis))
    return np.minimum(steps[1:], steps[:-1])


def _high(grid: Values) -> Values:
    """Return a grid on which NaN and inf lie above every level."""
    return np.clip(np.where(np.isnan(grid), _HUGE, grid), -_HUGE, _HUGE)
