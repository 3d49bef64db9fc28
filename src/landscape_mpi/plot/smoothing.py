"""Smooths a plane as far as its error bars allow: a picture with light and shadow shows every error as a ripple.

Whittaker's smoother in two dimensions (P. H. C. Eilers, "A Perfect Smoother", Analytical Chemistry 75, 2003): of all
heights z it finds those with the least sum of ((z - y) / bar)^2 + weight (z_xx^2 + 2 z_xy^2 + z_yy^2), where z_xx, z_xy
and z_yy are second differences between neighbours. The bars choose the weight: it is the largest with which 95 % of the
points stay within their 95 % error bars, and none moves by more than two bars. So a narrow peak or pit remains.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WITHIN = 0.95
"""The share of the points that stay within their bars."""
FARTHEST = 2.0
"""The most bars, its own or the median one, that any point moves by."""
HALVINGS = 8
"""Steps of the search for the weight, from 2^-6 to 2^18: they find it to a tenth, and more would not be seen."""
LIGHTEST, HEAVIEST = -6.0, 18.0
EXACT = 0.1
"""A bar is taken to be no narrower than this share of the median bar, so that exact points do not stand out."""
ITERATIONS, TOLERANCE = 200, 1e-4
"""When the method of conjugate gradients ends: at the latest, and at this residual relative to the first one."""


def smoothed(heights: Values, bars: Values) -> Values:
    """Return the smoothest heights [ny, nx] that stay within the bars at 95 % of the points, and near them elsewhere.

    Args:
        heights: float64 [ny, nx], finite.
        bars: half widths [ny, nx] in the unit of the heights. A point without a finite bar follows its neighbours. If
            there is no bar above 0, the heights are returned as they are.

    >>> ripples = np.array([[1.0, 1.1, 0.9, 1.1, 0.9, 1.0]] * 6)
    >>> bool(np.abs(np.diff(smoothed(ripples, np.full((6, 6), 0.2)), 2)).max() < 1e-3)
    True
    >>> bool(np.allclose(smoothed(ripples, np.full((6, 6), 1e-6)), ripples, atol=1e-5))
    True
    """
    known = np.isfinite(bars)
    barred = known & (bars > 0)
    if not barred.any():
        return heights
    usual = float(np.median(bars[barred]))
    precision = np.where(known, np.square(usual / np.maximum(bars, EXACT * usual)), 0.0)
    farthest = FARTHEST * np.maximum(bars, usual)
    found, low, high = heights, LIGHTEST, HEAVIEST
    for _ in range(HALVINGS):
        exponent = (low + high) / 2
        tried = _least(heights, precision, 2.0**exponent, found)
        moves = np.abs(tried - heights)
        if (moves <= bars)[barred].mean() >= WITHIN and (moves <= farthest)[known].all():
            found, low = tried, exponent
        else:
            high = exponent
    return found


def _least(heights: Values, precision: Values, weight: float, found: Values) -> Values:
    """Return the heights of the least sum, by conjugate gradients from `found` on, the diagonal as preconditioner."""
    diagonal = precision + 20.0 * weight  # of the sum of the three products of differences, away from the edges
    residual = precision * (heights - found) - weight * _bending(found)
    direction = residual / diagonal
    product = float(np.vdot(residual, direction))
    enough = product * TOLERANCE**2
    for _ in range(ITERATIONS):
        if product <= enough:
            break
        moved = precision * direction + weight * _bending(direction)
        step = product / float(np.vdot(direction, moved))
        found = found + step * direction
        residual = residual - step * moved
        ahead = residual / diagonal
        before, product = product, float(np.vdot(residual, ahead))
        direction = ahead + product / before * direction
    return found


def _bending(z: Values) -> Values:
    """Return half the gradient of the sum of z_xx^2 + 2 z_xy^2 + z_yy^2."""
    along = np.diff(np.pad(np.diff(z, 2, axis=1), ((0, 0), (2, 2))), 2, axis=1)
    up = np.diff(np.pad(np.diff(z, 2, axis=0), ((2, 2), (0, 0))), 2, axis=0)
    twist = np.diff(np.diff(np.pad(np.diff(np.diff(z, axis=0), axis=1), 1), axis=0), axis=1)
    return along + up + 2.0 * twist
