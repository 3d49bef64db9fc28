"""Points evaluated on all images once the plan is frozen, and what they say about the bars; knows arrays only."""

import math
from dataclasses import dataclass

import numpy as np

from landscape_mpi.sampling.order import Floats, Ints, uniforms

STREAM = (1 << 64) - 1
"""Of the random numbers: no split's."""
FALSE_ALARM = 0.025
"""Honest and independent 95 % bars may fail by their misses this often: 4 misses of 32 are allowed."""
FAR = 2.0
"""No point may be off by more than this many targets."""


@dataclass(frozen=True)
class Verdict:
    """What an audit found: points looked at, how many missed their bar, how many may, and the worst two ratios.

    `worst`: the largest |error| / bar. `farthest`: the largest |error| / (target |truth|). `passed`: whether at most
    `allowed` missed and `farthest` is at most 2.
    """

    points: int
    misses: int
    allowed: int
    worst: float
    farthest: float
    passed: bool


def points_to_audit(levels: Ints, top: int, count: int, seed: int) -> Ints:
    """Return up to `count` points [A], ascending, chosen by seed of those that do not stand on all images already.

    A point on the top level has no error to find, so it would only make the audit milder. They are chosen by hash,
    simple at random: every bar is as likely to be looked at.
    """
    candidates = np.flatnonzero(levels < top)
    keys = uniforms(seed, len(levels), STREAM)[candidates]
    return np.sort(candidates[np.argsort(keys, kind="stable")[:count]])


def judge(estimates: Floats, bars: Floats, truths: Floats, error: float) -> Verdict:
    """Compare the estimates [A] and 95 % bars [A] of audited points with their means over all images [A].

    Args:
        estimates: means as the frozen plan has them.
        bars: their error bars.
        truths: means over all images. A point is missed if its truth or its estimate is not finite.
        error: target, relative.
    """
    misses_allowed = allowed(len(truths))
    errors = np.where(np.isfinite(estimates) & np.isfinite(truths), np.abs(estimates - truths), np.inf)
    misses = int(((errors > bars) | np.isinf(errors)).sum())
    worst, farthest = _largest(errors, bars), _largest(errors, error * np.abs(truths))
    passed = misses <= misses_allowed and farthest <= FAR
    return Verdict(len(truths), misses, misses_allowed, worst, farthest, passed)


def allowed(points: int) -> int:
    """Return the smallest k for which more than k misses of so many are rarer than 2.5 % if each has 5 %."""
    chances = (math.comb(points, k) * 0.05**k * 0.95 ** (points - k) for k in range(points + 1))
    left = 1.0
    for misses, chance in enumerate(chances):
        left -= chance
        if left <= FALSE_ALARM:
            return misses
    return points


def _largest(errors: Floats, units: Floats) -> float:
    """Return the largest error in units of its own; an error of 0 is none, even where the unit is 0 or no number."""
    with np.errstate(all="ignore"):
        ratios = np.where(errors == 0, 0.0, np.where(np.isfinite(errors), errors / units, np.inf))
    return float(np.max(ratios, initial=0.0))
