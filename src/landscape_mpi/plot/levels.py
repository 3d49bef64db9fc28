"""Contour levels and how numbers are written; knows nothing of surfaces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from matplotlib.ticker import MaxNLocator

from landscape_mpi.errors import UserError

MOST = 200
"""More levels than this are a mistake: the lines would cover the picture."""

_EXPECTED = "expected FIRST:LAST:STEP (such as 0.1:10:0.5) or numbers in ascending order (such as 0.1,1,10)"


def parse_levels(text: str) -> tuple[float, ...]:
    """Return the levels that `--levels` names: FIRST:LAST:STEP, both ends included, or a list.

    Raises:
        UserError: it is neither.
    """
    try:
        levels = _steps(text) if ":" in text else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--levels: found {text!r}; {_EXPECTED}.") from None
    ascending = all(low < high for low, high in pairwise(levels))
    if not levels or not ascending or not all(map(math.isfinite, levels)):
        raise UserError(f"--levels: found {text!r}; {_EXPECTED}.")
    if len(levels) > MOST:
        raise UserError(f"--levels: {text!r} makes {len(levels)} levels; expected at most {MOST}.")
    return levels


def _steps(text: str) -> tuple[float, ...]:
    first, last, step = (float(part) for part in text.split(":"))
    if not step > 0 or not math.isfinite((last - first) / step):
        raise ValueError(text)
    count = min(math.floor((last - first) / step + 1e-9), MOST) + 1
    return tuple(float(f"{first + index * step:.12g}") for index in range(count))


def automatic_levels(low: float, high: float, *, log: bool, most: int = 14) -> tuple[float, ...]:
    """Return at most `most` round levels between two values.

    They are geometric on a log scale that spans a decade or more, else evenly spaced.
    """
    return geometric(low, high, most) if log and high >= 10 * low else linear(low, high, most)


def geometric(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return the powers of ten within [low, high] and as many round numbers between them as may be."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    strides = (((1,), stride) for stride in range(1, len(powers) + 1))
    for mantissas, stride in (((1, 1.5, 2, 3, 5, 7), 1), ((1, 2, 5), 1), ((1, 3), 1), *strides):
        every = (float(f"{mantissa}e{power}") for power in powers[::stride] for mantissa in mantissas)
        levels = tuple(level for level in every if low <= level <= high)
        if len(levels) <= most:
            break
    return levels


def linear(low: float, high: float, most: int) -> tuple[float, ...]:
    """Return evenly spaced round levels within [low, high]."""
    ticks = MaxNLocator(nbins=most - 1, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    digits = 3 - math.floor(math.log10(high - low))  # beyond those of the step: what is left of rounding
    found = sorted({round(float(level), digits) for level in ticks if low <= level <= high})
    return tuple(found) or (low,)


@dataclass(frozen=True)
class Numbers:
    """How the numbers of one scale are written, all alike; called with one, it returns its text.

    Attributes:
        decimals: of each, where they are evenly spaced; None where each has its own.
        thousands: whether those from 1000 on are powers of ten: others beside them are.
        hundredths: the same of those below 0.01.
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
