"""Checks error bars: evaluates some points on all examples once the plan is frozen, and counts the bars that hold."""

import math
from dataclasses import astuple, dataclass

import numpy as np

from landscape_mpi.metrics.base import LOSS, Metric
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.sampling.order import Floats, Ints, uniforms
from landscape_mpi.sampling.rounds import Estimated, Request, Rounds

STREAM = (1 << 64) - 1
"""Stream of the random numbers, which is that of no split."""
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
    """Return up to `count` points [A], ascending, chosen by seed of those that do not stand on all examples already.

    A point on the top level has no error to find, so it would only make the audit milder. They are chosen by hash,
    simple at random: every bar is as likely to be looked at.
    """
    candidates = np.flatnonzero(levels < top)
    keys = uniforms(seed, len(levels), STREAM)[candidates]
    return np.sort(candidates[np.argsort(keys, kind="stable")[:count]])


def spread_points(levels: Ints, means: Floats, top: int, count: int, seed: int) -> Ints:
    """Return up to `count` points [A], ascending, of those not on all examples: some of every level, low and high ones.

    Levels take turns, so that one of few points is looked at as well; within a level its points are cut into runs of
    about the same mean, and one of each run is chosen by seed. Honest bars miss as rarely in any level and run.
    """
    keys = uniforms(seed, len(levels), STREAM)
    there = [np.flatnonzero(levels == level) for level in range(top)]
    shares = np.zeros(len(there), np.int64)
    for _ in range(min(count, sum(map(len, there)))):
        open_levels = [level for level, points in enumerate(there) if shares[level] < len(points)]
        shares[min(open_levels, key=lambda level: (shares[level], level))] += 1
    chosen = []
    for points, share in zip(there, shares.tolist(), strict=True):
        ranked = points[np.argsort(means[points], kind="stable")]
        runs = np.array_split(ranked, share) if share else []
        chosen += [int(one[np.argmin(keys[one])]) for one in runs]
    return np.sort(np.array(chosen, np.int64))


def judge(
    estimates: Floats, bars: Floats, truths: Floats, error: float, centre: float = 0.0, least: float = 0.0
) -> Verdict:
    """Compare the estimates [A] and 95 % bars [A] of audited points with their means over all examples [A].

    Args:
        estimates: means as the frozen plan has them.
        bars: their error bars.
        truths: means over all examples. A point is missed if its truth or its estimate is not finite.
        error: target, relative to the truth above `centre`.
        centre: f(0, 0) where bars are of the rise above it, else 0.
        least: what lower rises count as.
    """
    misses_allowed = allowed(len(truths))
    errors = np.where(np.isfinite(estimates) & np.isfinite(truths), np.abs(estimates - truths), np.inf)
    misses = int(((errors > bars) | np.isinf(errors)).sum())
    worst, farthest = _largest(errors, bars), _largest(errors, error * np.maximum(np.abs(truths - centre), least))
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


class Audit:
    """Evaluates some points of a frozen plan on all examples; their exact means then replace their estimates."""

    def __init__(self, rounds: Rounds, count: int, seed: int) -> None:
        """Choose up to `count` points by seed; `requests` says what they lack."""
        self._rounds = rounds
        self._frozen: dict[str, dict[str, Estimated]] = {}
        self._loss = self._plan(LOSS)["loss"]
        levels, stops = rounds.standing.levels, rounds.ladder.prefixes
        if rounds.of == "loss":
            chosen = points_to_audit(levels, rounds.ladder.top, count, seed)
        else:
            chosen = spread_points(levels, self._loss.means, rounds.ladder.top, count, seed)
        points = chosen.tolist()
        self.requests = tuple(Request(point, stops[levels[point]], stops[-1]) for point in points)
        self._truths: dict[int, PerExample] = {}

    def take(self, request: Request, found: PerExample) -> None:
        """Take what a point gave on the examples that it lacked."""
        self._truths[request.point] = PerExample.join([self._rounds.taken(request.point), found])

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that came back."""
        lacked = sum(request.stop - request.start for request in self.requests if request.point in self._truths)
        return lacked / (len(self._loss.means) * self._rounds.ladder.frame.examples)

    @property
    def verdict(self) -> Verdict:
        """Compare the exact means with the error bars of the frozen plan's losses; return the result."""
        points = sorted(self._truths)
        truths = np.array([exact_mean(self._truths[point].losses) for point in points])
        rounds, loss = self._rounds, self._loss
        return judge(loss.means[points], loss.bars[points], truths, rounds.error, *rounds.scale)

    def estimates(self, metric: Metric) -> dict[str, Estimated]:
        """Return the frozen plan's means of a metric's results, exact and without a bar at the points that came back.

        Raises:
            KeyError: theta* gave no such results.
        """
        found = {}
        for result in metric.results:
            means, bars, examples, errors = (array.copy() for array in astuple(self._plan(metric)[result.name]))
            for point, truth in self._truths.items():
                means[point], errors[point] = mean_and_error(np.asarray(truth.numbers(result), np.float64))
                bars[point], examples[point] = 0.0, len(truth)
            found[result.name] = Estimated(means, bars, examples, errors)
        return found

    def _plan(self, metric: Metric) -> dict[str, Estimated]:
        """Return the estimates of the frozen plan, which no audit changes."""
        if metric.key not in self._frozen:
            self._frozen[metric.key] = self._rounds.estimates(metric)
        return self._frozen[metric.key]
