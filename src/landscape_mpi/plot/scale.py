"""Chooses the scale that all panels share: its ends, whether it is logarithmic, its levels, the format of numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, LogNorm, Normalize
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, Text, UserError
from landscape_mpi.plot.field import RATIO, Field, has_ratio, ratio
from landscape_mpi.plot.options import Options
from landscape_mpi.surface.read import Surface

Values = NDArray[np.float64]
Extend = Literal["neither", "min", "max", "both"]

_DECADES_FOR_LOG = 1.5
_TINY = 1e-5
"""A range, relative to the values, in which labels of four digits are all the same."""
_HIGHEST_RATIO = 0.5
"""The upper end of the paper's colour scale of |lambda_min / lambda_max|."""


@dataclass(frozen=True)
class Numbers:
    """The format of the numbers of one scale; called with a number, it returns its text.

    Attributes:
        decimals: how many decimals each number has, where they are evenly spaced; None where each has its own.
        thousands: whether numbers from 1000 on are powers of ten, because others beside them are.
        hundredths: the same for numbers below 0.01.
    """

    decimals: int | None = None
    thousands: bool = False
    hundredths: bool = False

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return how some numbers are written."""
        sizes = [abs(value) for value in values if value]
        thousands, hundredths = any(size >= 9999.5 for size in sizes), any(size < 1e-3 for size in sizes)
        steps = np.diff(values)
        even = len(steps) > 1 and bool(np.allclose(steps, steps[0]))
        decimals = max(len(f"{value:.10g}".partition(".")[2]) for value in values) if even else None
        return cls(None if thousands or hundredths else decimals, thousands, hundredths)

    def __call__(self, value: float, _position: int | None = None) -> str:
        """Return the text of a number."""
        if value and ((self.thousands and abs(value) >= 999.95) or (self.hundredths and abs(value) < 0.0099995)):
            return _power(value)
        if self.decimals is None:
            return number(value)
        return f"{value:.{self.decimals}f}".replace("-", "\N{MINUS SIGN}")


def number(value: float, _position: int | None = None) -> str:
    """Return a number as a figure shows it: at most four digits, else a power of ten."""
    short = f"{value:.4g}"
    if value == 0 or (abs(value) >= 1e-3 and "e" not in short):
        return short.replace("-", "\N{MINUS SIGN}")
    return _power(value)


def _power(value: float) -> str:
    mantissa, power = f"{value:.3e}".split("e")
    digits = mantissa.rstrip("0").rstrip(".")
    factor = {"1": "", "-1": "-"}.get(digits, rf"{digits}{{\times}}")
    return rf"${factor}10^{{{int(power)}}}$"


@dataclass(frozen=True)
class Scale:
    """The colours, heights and levels that all panels of a figure share.

    Attributes:
        low: the lower end; above 0 on a log scale.
        high: the upper end, above `low`.
        log: whether it is logarithmic.
        levels: the contour levels, ascending.
        floor: on a log scale, what a value of 0 is drawn at; None where no value is 0.
        extend: the ends beyond which there are values.
    """

    low: float
    high: float
    log: bool
    levels: tuple[float, ...]
    floor: float | None
    extend: Extend

    @property
    def norm(self) -> Normalize:
        """Return a continuous mapping of values to colours."""
        return (LogNorm if self.log else Normalize)(self.low, self.high, clip=False)

    @property
    def bands(self) -> tuple[float, ...]:
        """The bounds of filled bands: the levels, closed by both ends of the scale."""
        inner = (level for level in self.levels if self.low < level < self.high)
        return (self.low, *inner, self.high)

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values to label, few enough not to touch."""
        return automatic_levels(self.low, self.high, log=self.log, most=7)

    @property
    def band_ticks(self) -> tuple[float, ...]:
        """Bounds of bands to label: the round ones, else some of them."""
        round_ones = tuple(level for level in self.levels if level in self.ticks)
        return round_ones if len(round_ones) > 2 else self.levels[:: len(self.levels) // 10 + 1]

    @property
    def number(self) -> Numbers:
        """How the levels and ticks are written."""
        return Numbers.of(self.levels if len(self.levels) > 1 else self.ticks)

    def mappable(self, colours: Colormap) -> ScalarMappable:
        """Return the mappable of a continuous colour bar."""
        return ScalarMappable(self.norm, colours)

    def banded(self, colours: Colormap) -> ScalarMappable:
        """Return the mappable of a colour bar of filled bands."""
        return ScalarMappable(BoundaryNorm(self.bands, colours.N, extend=self.extend), colours)

    def lift(self, values: Values) -> Values:
        """Return the values with zeros lifted to the floor of a log scale."""
        return values if self.floor is None else np.where(values <= 0, self.floor, values)

    def height(self, values: Values) -> Values:
        """Return the heights of a 3-D view: within the scale, as log10 where it is logarithmic."""
        inside = np.clip(self.lift(values), self.low, self.high)
        return np.log10(inside) if self.log else inside


def as_usual(options: Options, surfaces: Sequence[Surface]) -> Options:
    """Return options that make eig_ratio the paper's filled map (Figure 7), where nothing else is asked for."""
    if options.metric != RATIO or not all(map(has_ratio, surfaces)):
        return options
    every = np.concatenate([ratio(surface).ravel() for surface in surfaces])
    finite = every[np.isfinite(every)]
    kind = options.kind or (None if surfaces[0].is_line else "filled")
    if options.scaled or not finite.size or finite.min() > _HIGHEST_RATIO:
        return replace(options, kind=kind)
    return replace(options, kind=kind, log=False, low=0.0, high=_HIGHEST_RATIO)


def above_least(fields: Sequence[Field], options: Options) -> tuple[list[Field], Options]:
    """Return the fields minus the smallest value of all where their range is tiny, and the options for them.

    Nothing is subtracted where a logarithm, levels or ends are asked for. The differences are drawn on a linear scale.
    """
    low = min(float(field.finite.min()) for field in fields)
    high = max(float(field.finite.max()) for field in fields)
    if options.scaled or not 0 < high - low < _TINY * max(abs(low), abs(high)):
        return list(fields), options
    shifted = []
    for field in fields:
        words = f"{field.quantity.words}\nabove {low:.15g}"
        shifted.append(replace(field, values=field.values - low, quantity=replace(field.quantity, words=words)))
    return shifted, replace(options, log=False)


def scale_of(fields: Sequence[Field], options: Options) -> Scale:
    """Return the scale that fits the finite values of all fields.

    Raises:
        UserError: the options contradict themselves or the values.
    """
    values = np.concatenate([field.finite for field in fields])
    metric = fields[0].quantity.metric
    log = _is_log(fields, values, options)
    if options.levels:
        _check_overlap(options.levels, values, metric, Flag("levels"))
    positive = values[values > 0] if log else values
    low, high = _ends(positive, options)
    _check_overlap((low, high), values, metric, (Flag("vmin"), " and ", Flag("vmax")))
    floor = float(positive.min()) if log and values.min() <= 0 else None
    below, above = (values.min() if floor is None else floor) < low, values.max() > high
    extend: Extend = "both" if below and above else "min" if below else "max" if above else "neither"
    return Scale(low, high, log, options.levels or automatic_levels(low, high, log=log), floor, extend)


def _is_log(fields: Sequence[Field], values: Values, options: Options) -> bool:
    """Return whether the scale is logarithmic: as asked, else where the values span more than 1.5 decades.

    Raises:
        UserError: a log scale is asked for, and cannot show the values or what else is asked for.
    """
    positive, below = values[values > 0], int((values < 0).sum())
    first = options.levels[0] if options.levels else None
    ends = {"vmin": options.low, "vmax": options.high, "levels": first}
    impossible = {flag: end for flag, end in ends.items() if end is not None and end <= 0}
    if options.log is None:
        steps = np.diff(options.levels or ())
        even = steps.size > 1 and bool(np.allclose(steps, steps[0]))
        if even or impossible or fields[0].quantity.unit == "%" or below or not positive.size:
            return False
        return bool(np.log10(positive.max()) - np.log10(positive.min()) > _DECADES_FOR_LOG)
    if options.log and (below or not positive.size):
        found = f"below 0 at {below} points" if below else "0 everywhere"
        metric = fields[0].quantity.metric
        raise UserError(
            Flag("log"), f"{metric} is {found}", remedy=("a log scale needs values above 0: use ", Flag("linear"))
        )
    if options.log and impossible:
        flag, end = next(iter(impossible.items()))
        raise UserError(Flag(flag), f"found {end:g}", remedy=("a log scale needs values above 0: use ", Flag("linear")))
    return options.log


def _ends(values: Values, options: Options) -> tuple[float, float]:
    """Return the ends of the scale: as asked, else the outer levels, else those of the values."""
    outer = options.levels if options.levels and len(options.levels) > 1 else (values.min(), values.max())
    low = float(outer[0]) if options.low is None else options.low
    high = float(outer[-1]) if options.high is None else options.high
    if low == high and options.low is None and options.high is None:  # a constant surface gets a little room
        low, high = (0.9 * low, 1.1 * high) if low > 0 else (low - 0.5, high + 0.5)
    if not low < high:
        raise UserError(
            (Flag("vmin"), " and ", Flag("vmax")), f"found {low:g} to {high:g}", expected="an ascending range"
        )
    return low, high


def _check_overlap(asked: Sequence[float], values: Values, metric: str, flag: Text) -> None:
    """Refuse levels or ends that would leave an empty picture."""
    low, high = float(values.min()), float(values.max())
    if asked[0] > high or asked[-1] < low:
        raise UserError(
            flag,
            f"{asked[0]:g} to {asked[-1]:g} lies outside the values of {metric}, which are {low:.3g} to {high:.3g}",
        )


def automatic_levels(low: float, high: float, *, log: bool, most: int = 14) -> tuple[float, ...]:
    """Return at most `most` round levels between two values.

    On a log scale that spans a decade or more, the levels are powers of ten, with as many round numbers between them
    as `most` allows. Otherwise the levels are evenly spaced.
    """
    if not (log and high >= 10 * low):
        ticks = MaxNLocator(nbins=most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        digits = 3 - math.floor(math.log10(high - low))  # digits beyond those of the step are rounding errors
        even = sorted({round(float(level), digits) for level in ticks if low <= level <= high})
        return tuple(even) or (low,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    strides = (((1,), stride) for stride in range(1, len(powers) + 1))
    for mantissas, stride in (((1, 1.5, 2, 3, 5, 7), 1), ((1, 2, 5), 1), ((1, 3), 1), *strides):
        every = (float(f"{mantissa}e{power}") for power in powers[::stride] for mantissa in mantissas)
        levels = tuple(level for level in every if low <= level <= high)
        if len(levels) <= most:
            break
    return levels
