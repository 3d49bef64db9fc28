"""Defines the options of a figure, and reads contour levels and the place of a plane from their text.

Imports no matplotlib, because a page of help does not need it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from landscape_mpi.errors import Flag, UserError

KINDS = ("contour", "filled", "heat", "surface", "line", "density", "render")
"""The kinds of picture of a surface."""

HISTORY_KINDS = ("training", "norm", "weights")
"""The kinds of picture of training histories."""

SIZES = {"square": (1600, 1600), "wide": (1920, 1080)}
"""The sizes of a picture that have names: width and height in pixels."""
SMALLEST, LARGEST = 64, 8192
"""The fewest and the most pixels of a side of a picture."""
LOWEST, HIGHEST = 5, 85
"""The lowest and highest elevation of a camera, in degrees: it never looks from below, and up stays defined."""

MOST_LEVELS = 200
"""More levels than this are a mistake: the lines would cover the picture."""

_EXPECTED = "expected FIRST:LAST:STEP (such as 0.1:10:0.5) or numbers in ascending order (such as 0.1,1,10)"


@dataclass(frozen=True)
class Options:
    """The options of a figure; None leaves the choice to the program.

    Attributes:
        kind: one of KINDS or HISTORY_KINDS.
        metric: the name of a dataset, such as train_loss.
        log: logarithmic (True) or linear (False) colours and heights.
        levels: the contour levels, ascending, in the metric's unit.
        low: the lower end of the colour scale.
        high: the upper end of the colour scale.
        title: replaces the title.
        captions: replace the titles of the panels, one each; none where there are none.
        bandwidth: the standard deviation of the Gaussians that make a density of eigenvalues.
        size: width and height of a lit picture, in pixels.
        view: where its camera stands: azimuth from +alpha towards +beta, and elevation, in degrees.
    """

    kind: str | None = None
    metric: str | None = None
    log: bool | None = None
    levels: tuple[float, ...] | None = None
    low: float | None = None
    high: float | None = None
    title: str | None = None
    captions: tuple[str, ...] = ()
    bandwidth: float | None = None
    size: tuple[int, int] | None = None
    view: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible bandwidth, and options that the kind of picture does not use.

        Raises:
            UserError: a bandwidth is not above 0, or not for the kind; a size or a view is not for the kind.
        """
        if self.bandwidth is not None and not 0 < self.bandwidth < math.inf:
            raise UserError(Flag("bandwidth"), f"found {self.bandwidth:g}", expected="a number above 0")
        if self.bandwidth is not None and self.kind != "density":
            raise UserError(Flag("bandwidth"), "is for spectra", expected=(Flag("kind", ("density",)), " as well"))
        for flag, given in (("size", self.size), ("view", self.view)):
            if given is not None and self.kind != "render":
                raise UserError(Flag(flag), "is for lit pictures", expected=(Flag("kind", ("render",)), " as well"))

    @property
    def scaled(self) -> bool:
        """Whether a logarithm, levels or an end of the scale is asked for."""
        return bool(self.log or self.levels or self.low is not None or self.high is not None)


def parse_levels(levels_given: str | Sequence[float]) -> tuple[float, ...]:
    """Return contour levels from text such as FIRST:LAST:STEP (both ends included) or a list, or from numbers.

    Raises:
        UserError: they are neither, or do not ascend.
    """
    text = levels_given if isinstance(levels_given, str) else ",".join(repr(float(each)) for each in levels_given)
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            if not step > 0 or not math.isfinite((last - first) / step):
                raise ValueError(text)
            count = min(math.floor((last - first) / step + 1e-9), MOST_LEVELS) + 1
            levels = tuple(float(f"{first + index * step:.12g}") for index in range(count))
        else:
            levels = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(Flag("levels"), f"found {text!r}", remedy=_EXPECTED) from None
    ascending = all(low < high for low, high in pairwise(levels))
    if not levels or not ascending or not all(map(math.isfinite, levels)):
        raise UserError(Flag("levels"), f"found {text!r}", remedy=_EXPECTED)
    if len(levels) > MOST_LEVELS:
        raise UserError(Flag("levels"), f"{text!r} makes {len(levels)} levels", expected=f"at most {MOST_LEVELS}")
    return levels


def parse_at(text: str) -> float:
    """Return where the plane of a volume lies, from text such as `gamma=0.5`.

    Raises:
        UserError: it names another axis, or no finite number.
    """
    name, _, number = text.partition("=")
    try:
        gamma = float(number)
    except ValueError:
        gamma = math.nan
    if name.strip() != "gamma" or not math.isfinite(gamma):
        raise UserError(Flag("at"), f"found {text!r}", expected="gamma=NUMBER (such as gamma=0.5)")
    return gamma


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height in pixels, from a name of SIZES or from text such as `1600x900`.

    Raises:
        UserError: it is neither, or a side is too short or too long.
    """
    sides = SIZES.get(text) or tuple(int(side) if side.isdecimal() else 0 for side in text.split("x"))
    if len(sides) != 2 or not all(SMALLEST <= side <= LARGEST for side in sides):
        names = ", ".join(SIZES)
        expected = f"{names} or WIDTHxHEIGHT in pixels, {SMALLEST} to {LARGEST} (such as 1600x900)"
        raise UserError(Flag("size"), f"found {text!r}", expected=expected)
    return sides


def parse_view(text: str) -> tuple[float, float]:
    """Return where a camera stands, azimuth and elevation in degrees, from text such as `302,31`.

    Raises:
        UserError: it is not two numbers, or the elevation is not between LOWEST and HIGHEST.
    """
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError:
        azimuth = elevation = math.nan
    if not (math.isfinite(azimuth) and LOWEST <= elevation <= HIGHEST):
        expected = f"AZIMUTH,ELEVATION in degrees, the elevation {LOWEST} to {HIGHEST} (such as 302,31)"
        raise UserError(Flag("view"), f"found {text!r}", expected=expected)
    return azimuth, elevation
