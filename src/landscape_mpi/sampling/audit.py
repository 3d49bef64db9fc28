"""Checks error bars: evaluates some points on all examples once the plan is frozen, and counts the bars that hold.

These points also tell the errors that all points share, because all points share their examples. With these errors
known, the other points are estimated again, and far better. An audited point is judged like one of these others: by the
estimate and the bar that it has where its own mean and those of some other audited points are not known.

If bars are widened, some may become wider than the target. Their points are then evaluated on all examples, too.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from landscape_mpi.metrics.base import LOSS, Metric, Result
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.sampling.order import Floats, Ints, uniforms
from landscape_mpi.sampling.plan import relative_bars
from landscape_mpi.sampling.rounds import Estimated, Request, Rounds

STREAM = (1 << 64) - 1
"""Stream of the random numbers; no split uses this stream."""
FALSE_ALARM = 0.025
"""Correct and independent 95 % bars may fail the audit this often because of misses: 4 misses of 32 are allowed."""
PARTS = 8
"""Audited points are cut into so many parts, each estimated with all others known."""
FAR = 2.0
"""No point may be off by more than this many targets."""


@dataclass(frozen=True)
class Verdict:
    """What an audit found: points looked at, how many missed their bar, how many may, and the worst two ratios.

    `worst`: the largest |error| / bar. `farthest`: the largest |error| / (target |truth|). `passed`: whether at most
    `allowed` missed and `farthest` is at most 2. `widened`: by how much the bars of the other points were widened
    since. The audit also passes if all of these bars are within the target. It fails if one is wider than two targets.
    If it passes, points whose bars are wider than the target are evaluated on all examples; none of this changes then.
    """

    points: int
    misses: int
    allowed: int
    worst: float
    farthest: float
    passed: bool
    widened: float = 1.0


def points_to_audit(levels: Ints, top: int, count: int, seed: int) -> Ints:
    """Return up to `count` points [A], ascending, chosen by seed from the points that do not yet stand on all examples.

    A point on the top level has no error to find, so it would only make the audit milder. Points are chosen by hash, as
    a simple random sample: every bar is equally likely to be looked at.
    """
    candidates = np.flatnonzero(levels < top)
    keys = uniforms(seed, len(levels), STREAM)[candidates]
    return np.sort(candidates[np.argsort(keys, kind="stable")[:count]])


def spread_points(levels: Ints, means: Floats, top: int, count: int, seed: int) -> Ints:
    """Return up to `count` points [A], ascending, not yet on all examples: some of every level, of low and high means.

    Levels take turns, so that a level with few points is looked at as well. The points of a level are cut into runs of
    about the same mean, and one point of each run is chosen by seed. Correct bars miss as rarely in any level and run.
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


def widening(estimates: Floats, bars: Floats, truths: Floats) -> float:
    """Return the factor, at least 1, by which bars [A] have to be wider for 95 % of them to hold.

    It is the largest |error| / bar when one point in 20 is left out. Points that are not audited are estimated in the
    same way, so their bars hold as often (split conformal prediction: Lei et al., "Distribution-free predictive
    inference for regression", JASA 113, 2018). Ratios that are not finite are left out: they say nothing of a width.
    """
    with np.errstate(all="ignore"):
        ratios = np.abs(estimates - truths) / bars
    ratios = np.sort(ratios[np.isfinite(ratios)])
    return max(1.0, float(ratios[len(ratios) - 1 - len(ratios) // 20])) if len(ratios) else 1.0


def _largest(errors: Floats, units: Floats) -> float:
    """Return the largest error, each in its own unit; an error of 0 gives 0, even where the unit is 0 or no number."""
    with np.errstate(all="ignore"):
        ratios = np.where(errors == 0, 0.0, np.where(np.isfinite(errors), errors / units, np.inf))
    return float(np.max(ratios, initial=0.0))


class Audit:
    """Evaluates some points of a frozen plan on all examples, and estimates the others with these known.

    `requests` says what the audited points lack, and `completions` what the points lack whose bars are then too wide.
    """

    def __init__(self, rounds: Rounds, count: int, seed: int) -> None:
        """Choose up to `count` points by seed."""
        self._rounds = rounds
        levels, stops = rounds.standing.levels, rounds.ladder.prefixes
        if rounds.of == "loss":
            chosen = points_to_audit(levels, rounds.ladder.top, count, seed)
        else:
            chosen = spread_points(levels, rounds.estimates(LOSS)["loss"].means, rounds.ladder.top, count, seed)
        points = chosen.tolist()
        self.requests = tuple(Request(point, stops[levels[point]], stops[-1]) for point in points)
        keys = uniforms(seed, len(levels), STREAM)
        self._mixed = [int(point) for point in chosen[np.argsort(keys[chosen], kind="stable")]]
        self.completions: tuple[Request, ...] | None = None
        self._truths: dict[int, PerExample] = {}
        self._completed: dict[int, PerExample] = {}
        self._planned: dict[str, dict[str, Estimated]] = {}
        self._estimated: dict[str, dict[str, Estimated]] = {}

    def complete(self) -> tuple[Request, ...]:
        """Return, once, what the points lack whose bars are wider than the target; nothing where the audit failed.

        All that `requests` asks for has come back.
        """
        if self.completions is not None:
            return ()
        levels, stops = self._rounds.standing.levels, self._rounds.ladder.prefixes
        wide = np.flatnonzero(self._widths() > self._rounds.error)
        points = wide.tolist() if self._truths and self.verdict.passed else []
        self.completions = tuple(Request(point, stops[levels[point]], stops[-1]) for point in points)
        return self.completions

    def take(self, request: Request, found: PerExample) -> None:
        """Take what a point gave on the examples that it lacked."""
        whole = PerExample.join([self._rounds.taken(request.point), found])
        if request in self.requests:
            self._truths[request.point] = whole
            self._estimated.clear()
        else:
            self._completed[request.point] = whole

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that came back."""
        asked, there = (*self.requests, *(self.completions or ())), self._truths | self._completed
        lacked = sum(request.stop - request.start for request in asked if request.point in there)
        return lacked / (len(self._rounds.standing.levels) * self._rounds.ladder.frame.examples)

    @property
    def verdict(self) -> Verdict:
        """Compare the exact means with estimates and bars made without them; return the result."""
        points, (centre, least) = sorted(self._truths), self._rounds.scale
        means, bars = self._left_out(LOSS)["loss"]
        truths = np.array([exact_mean(self._truths[point].losses) for point in points])
        found = judge(means, bars, truths, self._rounds.error, centre, least)
        widest = self._widths().max(initial=0.0)
        holds = found.misses <= found.allowed or widest <= self._rounds.error
        passed = holds and max(found.farthest, widest / self._rounds.error if widest else 0.0) <= FAR
        return replace(found, passed=passed, widened=widening(means, bars, truths))

    def _widths(self) -> Floats:
        """Return the relative bars of the loss [G], 0 at points that are known and those whose evaluation failed."""
        told, (centre, least) = self.estimates(LOSS)["loss"], self._rounds.scale
        uncertain = np.isfinite(told.bars) & (told.bars > 0)
        return np.where(uncertain, relative_bars(told.means - centre, told.bars, least), 0.0)

    def estimates(self, metric: Metric) -> dict[str, Estimated]:
        """Return the means of a metric's results, with what the points that came back tell about all others.

        Bars are widened by the factor that those of the audited points need (see `widening`).

        Raises:
            KeyError: theta* gave no such results.
        """
        if metric.key not in self._estimated:
            points, found = sorted(self._truths), self._known(metric)
            for name, (means, bars) in self._left_out(metric).items():
                factor = widening(means, bars, found[name].means[points])
                found[name] = replace(found[name], bars=factor * found[name].bars)
            self._estimated[metric.key] = found
        results = {result.name: result for result in metric.results}
        return {name: self._with_completed(one, results[name]) for name, one in self._estimated[metric.key].items()}

    def _with_completed(self, found: Estimated, result: Result) -> Estimated:
        """Return the estimates with the exact means of the completed points, which tell nothing about other points."""
        if not self._completed:
            return found
        means, bars = found.means.copy(), found.bars.copy()
        examples, errors = found.examples.copy(), found.errors.copy()
        for point, one in self._completed.items():
            means[point], errors[point] = mean_and_error(one.numbers(result))
            bars[point], examples[point] = 0.0, self._rounds.ladder.frame.examples
        return Estimated(means, bars, examples, errors)

    def _left_out(self, metric: Metric) -> dict[str, tuple[Floats, Floats]]:
        """Return the estimates and the bars of the audited points without their own means, by result.

        The points are cut into 8 parts. Each part is estimated with the points of all other parts known, as every point
        that is not audited is in the end.
        """
        points = sorted(self._truths)
        found = {one.name: (np.full(len(points), np.nan), np.full(len(points), np.inf)) for one in metric.results}
        for part in range(min(PARTS, len(points))):
            hidden = points[part::PARTS]
            for name, one in self._known(metric, hidden).items():
                found[name][0][part::PARTS], found[name][1][part::PARTS] = one.means[hidden], one.bars[hidden]
        return found

    def _known(self, metric: Metric, hidden: Collection[int] = ()) -> dict[str, Estimated]:
        """Return the means of a metric's results with the points that have come back known, except `hidden` ones.

        A bar may become wider where examples are too few for so many regressors. The estimate without them then stays.
        """
        # in random order, not that of the grid: examples may be too few to use all of them as regressors
        shown = (point for point in self._mixed if point in self._truths and point not in hidden)
        found = self._rounds.knowing({point: self._truths[point] for point in shown}).estimates(metric)
        for name, plain in self._plan(metric).items():
            one = found[name]
            stays = plain.bars < one.bars
            means, bars = (np.where(stays, *pair) for pair in ((plain.means, one.means), (plain.bars, one.bars)))
            found[name] = replace(one, means=means, bars=bars)
        return found

    def _plan(self, metric: Metric) -> dict[str, Estimated]:
        """Return the estimates of the plan, which no audit changes."""
        if metric.key not in self._planned:
            self._planned[metric.key] = self._rounds.estimates(metric)
        return self._planned[metric.key]
