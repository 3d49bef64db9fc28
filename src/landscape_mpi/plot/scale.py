"""One colour scale for all panels: its ends, whether it is logarithmic, its levels; knows nothing of axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, Colormap, LogNorm, Normalize
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.levels import Numbers, automatic_levels
from landscape_mpi.plot.options import Options

Values = NDArray[np.float64]
Extend = Literal["neither", "min", "max", "both"]

_DECADES_FOR_LOG = 1.5


@dataclass(frozen=True)
class Scale:
    """The colours, heights and levels that all panels of a figure share.

    Attributes:
        low: the lower end; above 0 on a log scale.
        high: the upper end, above `low`.
        log: whether it is logarithmic.
        levels: the contour levels, ascending.
        floor: on a log scale, what a value of 0 is drawn at; None where no value is 0.
        extend: at which ends there are values beyond.
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
        """Return what a continuous colour bar needs."""
        return ScalarMappable(self.norm, colours)

    def banded(self, colours: Colormap) -> ScalarMappable:
        """Return what a colour bar of filled bands needs."""
        return ScalarMappable(BoundaryNorm(self.bands, colours.N, extend=self.extend), colours)

    def lift(self, values: Values) -> Values:
        """Return the values with zeros lifted to the floor of a log scale."""
        return values if self.floor is None else np.where(values <= 0, self.floor, values)

    def height(self, values: Values) -> Values:
        """Return the heights of a 3-D view: within the scale, as log10 where it is logarithmic."""
        inside = np.clip(self.lift(values), self.low, self.high)
        return np.log10(inside) if self.log else inside


def scale_of(fields: Sequence[Field], options: Options) -> Scale:
    """Return the scale that fits the finite values of all fields.

    Raises:
        UserError: the options contradict themselves or the values.
    """
    values = np.concatenate([field.finite for field in fields])
    metric = fields[0].quantity.metric
    log = _suits_log(fields, values, options) if options.log is None else options.log
    if log:
        _check_log(values, metric, options)
    if options.levels:
        _check_overlap(options.levels, values, metric, "--levels")
    positive = values[values > 0] if log else values
    low, high = _ends(positive, options)
    _check_overlap((low, high), values, metric, "--vmin and --vmax")
    floor = float(positive.min()) if log and values.min() <= 0 else None
    levels = options.levels or automatic_levels(low, high, log=log)
    return Scale(low, high, log, levels, floor, _extend(values, low, high, floor))


def _suits_log(fields: Sequence[Field], values: Values, options: Options) -> bool:
    """Return whether a linear scale would lose values of more than 1.5 decades, and nothing asks for one."""
    positive = values[values > 0]
    asked = any(end is not None and end <= 0 for end in _asked(options).values()) or _evenly(options.levels)
    if asked or fields[0].quantity.unit == "%" or values.min() < 0 or not positive.size:
        return False
    return bool(np.log10(positive.max()) - np.log10(positive.min()) > _DECADES_FOR_LOG)


def _asked(options: Options) -> dict[str, float | None]:
    """Return the values that a log scale could not show, by the flags that ask for them."""
    return {"--vmin": options.low, "--vmax": options.high, "--levels": options.levels[0] if options.levels else None}


def _evenly(levels: Sequence[float] | None) -> bool:
    """Return whether there are levels, evenly spaced."""
    steps = np.diff(levels or ())
    return steps.size > 1 and bool(np.allclose(steps, steps[0]))


def _check_log(values: Values, metric: str, options: Options) -> None:
    below = int((values < 0).sum())
    if below or not (values > 0).any():
        found = f"below 0 at {below} points" if below else "0 everywhere"
        raise UserError(f"--log: {metric} is {found}; a log scale needs values above 0: use --linear.")
    for flag, end in _asked(options).items():
        if end is not None and end <= 0:
            raise UserError(f"{flag}: found {end:g}; a log scale needs values above 0: use --linear.")


def _ends(values: Values, options: Options) -> tuple[float, float]:
    """Return the ends of the scale: as asked, else the outer levels, else those of the values."""
    outer = options.levels if options.levels and len(options.levels) > 1 else (values.min(), values.max())
    low = float(outer[0]) if options.low is None else options.low
    high = float(outer[-1]) if options.high is None else options.high
    if low == high and options.low is None and options.high is None:  # a constant surface gets a little room
        low, high = (0.9 * low, 1.1 * high) if low > 0 else (low - 0.5, high + 0.5)
    if not low < high:
        raise UserError(f"--vmin and --vmax: found {low:g} to {high:g}; expected an ascending range.")
    return low, high


def _check_overlap(asked: Sequence[float], values: Values, metric: str, flag: str) -> None:
    """Refuse levels or ends that would leave an empty picture."""
    low, high = float(values.min()), float(values.max())
    if asked[0] > high or asked[-1] < low:
        raise UserError(
            f"{flag}: {asked[0]:g} to {asked[-1]:g} lies outside the values of {metric}, "
            f"which are {low:.3g} to {high:.3g}."
        )


def _extend(values: Values, low: float, high: float, floor: float | None) -> Extend:
    below = (values.min() if floor is None else floor) < low
    above = values.max() > high
    return "both" if below and above else "min" if below else "max" if above else "neither"
