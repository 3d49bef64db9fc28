"""Estimates means over all examples from prefixes: calibrated weights, level by level from the top down.

Deville and Särndal, "Calibration estimators in survey sampling", JASA 87 (1992); Särndal, Swensson and Wretman, "Model
assisted survey sampling" (1992), chapters 5 to 7. "SSW" below is the latter. Points on higher levels are regressors for
points on lower levels, with the means already estimated there. This is nested two-phase sampling (chapter 9), once for
every level below the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.metrics.examples import exact_mean, mean_and_error
from landscape_mpi.sampling.order import Floats, Frame, Ints, inclusion

LEAST_APART = 1e-6
"""A regressor is dropped if, scaled to length 1, it lies nearer than this to the span of those before it."""
FEWEST = 5
"""A class with fewer examples than this in a prefix shares a stratum with other such classes."""
PER_REGRESSOR = 5
"""Examples that every regressor needs: with more than n / 5 regressors the bars are too narrow."""
PER_STRATUM = 10
"""Examples that every class of its own needs, on average."""


@dataclass(frozen=True)
class Calibration:
    """A least-squares fit on p regressors with known or estimated means; those that add nothing are left out.

    `kept` int64 [k]: the regressors in use. `weights` float64 [n]: calibrated weights w. `basis` [n, k] and `triangle`
    [k, k]: QR factors of the weighted and scaled regressors. `scales` [k], `roots` [n]: their scales, sqrt(d).
    """

    kept: Ints
    weights: Floats
    basis: Floats
    triangle: Floats
    scales: Floats
    roots: Floats

    def coefficients(self, values: Floats) -> Floats:
        """Return B [k, points] = (sum d x x')^-1 sum d x y', from values y [n, points] (SSW 6.4.2)."""
        projected = self.basis.T @ (self.roots[:, None] * values)
        return np.asarray(np.linalg.solve(self.triangle, projected) / self.scales[:, None], np.float64)


def calibrate(regressors: Floats, design: Floats, means: Floats) -> Calibration:
    """Return the weights nearest to the design weights that reproduce the means: sum w x = m.

    w_i = d_i x_i' (sum d x x')^-1 m (Deville and Särndal 1992, chi-squared distance); the estimate of a mean is then
    sum w y = B m, which is exact for whatever is linear in x. A regressor that is a combination of earlier ones on
    this prefix is left out, so the regressors whose means are known best come first.

    Args:
        regressors: x [n, p], finite.
        design: d [n], design weights 1 / pi, up to a factor.
        means: m [p], over all examples.
    """
    roots = np.sqrt(design)
    weighted = roots[:, None] * regressors
    largest = np.abs(weighted).max(axis=0, initial=0.0)
    scales = largest * np.linalg.norm(weighted / np.where(largest > 0, largest, 1.0), axis=0)
    kept = np.flatnonzero(scales > 0)
    basis, triangle = np.linalg.qr(weighted[:, kept] / scales[kept])
    apart = np.abs(np.diag(triangle)) > LEAST_APART
    if not apart.all():
        kept = kept[apart]
        basis, triangle = np.linalg.qr(weighted[:, kept] / scales[kept])
    weights = roots * (basis @ np.linalg.solve(triangle.T, means[kept] / scales[kept]))
    return Calibration(kept, weights, basis, triangle, scales[kept], roots)


def strata(prefix: Ints, whole: Ints, most: int) -> tuple[Floats, Floats]:
    """Return class indicators of a prefix [n, k] and the shares of the same strata among all examples [k].

    Classes too rare in the prefix to tell anything (absent, fewer than 5 examples, or beyond the `most` largest) are
    collapsed into one stratum (SSW 3.7.1 on strata with few elements); if that is too rare as well, the smallest
    other joins it. The shares sum to 1: some combination of the indicators is the constant.
    """
    count = int(whole.max()) + 1
    seen = np.bincount(prefix, minlength=count)
    ranked = np.argsort(-seen, kind="stable")
    own = ranked[: most if count <= most else most - 1]
    own = own[seen[own] >= FEWEST]
    while len(own) and 0 < len(own) < count and seen[np.setdiff1d(ranked, own)].sum() < FEWEST:
        own = own[:-1]
    stratum = np.full(count, len(own))
    stratum[own] = np.arange(len(own))
    used = np.unique(stratum)
    shares = np.bincount(stratum[whole], minlength=len(own) + 1)[used] / len(whole)
    return (stratum[prefix][:, None] == used).astype(np.float64), shares


def noise(calibration: Calibration, pi: Floats, residuals: Floats) -> Floats:
    """Return each example's share in the errors [n, points]: n / (n - p) w_i sqrt(1 - pi_i) e_i.

    The columns' squares sum to the variances of the estimates about B m, their products to the covariances (SSW 6.6.4
    for Poisson sampling, with calibrated weights; n / (n - p) makes up for the degrees of freedom the fit has used).
    """
    n, p = calibration.basis.shape
    factor = calibration.weights * np.sqrt(1.0 - pi) * (n / (n - p))
    shares: Floats = factor[:, None] * residuals
    return shares


def freedom(errors: Floats) -> Floats:
    """Return the degrees of freedom of sums of squares of errors [n, points]: 2 V^2 / Var(V) (Satterthwaite 1946).

    Var(V) is estimated as sum e^4 - V^2 / n: n - 1 of independent normal errors, 2 where one example carries all.
    """
    squares = np.square(errors)
    total = squares.sum(axis=0)
    with np.errstate(all="ignore"):
        shares = squares / total
        found = 2.0 / np.maximum(np.square(shares).sum(axis=0) - 1.0 / len(errors), 1e-12)
    return np.where(total > 0, found, np.inf)


@dataclass(frozen=True)
class Estimates:
    """Of every point: `means` float64 [G] and `variances` [G], NaN and infinite where there is no estimate.

    `noise` float64 [n_0, G]: the share of the examples of the first level in the error, for correlations between points
    and predictions; 0 where a point's mean is exact or unknown. `magnitudes` [G]: the mean size of a value. `freedom`
    [G]: about how many degrees of freedom the variance has; they are few where few examples carry it.
    """

    means: Floats
    variances: Floats
    noise: Floats
    magnitudes: Floats = field(default_factory=lambda: np.empty(0))
    freedom: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Standing:
    """The state of all points: `levels` int64 [G], -1 before the first; `turns` int64 [G], when each was promoted."""

    levels: Ints
    turns: Ints


@dataclass(frozen=True)
class Ladder:
    """The examples in order, and the levels; no evaluation changes them.

    `prefixes`: the number of examples of each level, the last being all. `pi`: inclusion probabilities [n] of each
    level's examples in it.
    """

    frame: Frame
    prefixes: tuple[int, ...]
    pi: tuple[Floats, ...]

    @property
    def top(self) -> int:
        """The level of all examples."""
        return len(self.prefixes) - 1


def make_ladder(frame: Frame, prefixes: tuple[int, ...]) -> Ladder:
    """Return the ladder of these levels."""
    return Ladder(frame, prefixes, tuple(inclusion(frame.sizes, n)[:n] for n in prefixes))


@dataclass(frozen=True)
class _Given:
    """The arguments of `estimate`."""

    ladder: Ladder
    reference: NDArray[np.floating]
    values: Sequence[NDArray[np.floating]]

    def columns(self, points: Ints, n: int) -> Floats:
        """Return the first n values of some points, float64 [n, points]; point -1 is theta*."""
        return _columns([*self.values, self.reference], points, n)


@dataclass(frozen=True)
class _Known:
    """Points estimated so far, best first: `points` [K] (-1 is theta*), means [K] and their covariances [K, K]."""

    points: Ints
    means: Floats
    covariances: Floats


def estimate(
    ladder: Ladder, standing: Standing, reference: NDArray[np.floating], values: Sequence[NDArray[np.floating]]
) -> Estimates:
    """Return means over all examples, with variances, of every point that has values.

    Level by level from the top down: x_i = [class indicators; values at theta*; values at the points of higher
    levels], at most n / 5 of them, the highest levels first and in each the earliest promoted; mean = B m; variance =
    B Cov(m) B' + sum noise^2. theta* has been evaluated on all examples and never counts as a point.

    A point with a value that is not finite supports no other, and has no estimate unless it stands on the top level.

    Args:
        ladder: the examples and the levels.
        standing: where the G points stand.
        reference: values at theta* [N], in the frame's order; no regressor where some are not finite.
        values: of each point, at least as many as its level has examples, in the frame's order.
    """
    count = len(values)
    noises = np.zeros((ladder.prefixes[0] if ladder.top else 0, count))
    found = Estimates(np.full(count, np.nan), np.full(count, np.inf), noises, np.zeros(count), np.full(count, np.inf))
    given, mean = _Given(ladder, reference, values), exact_mean(reference)
    # theta* is known without error, unless its mean is not finite
    origin = np.full(int(np.isfinite(mean)), -1)
    known = _Known(origin, np.full(len(origin), mean), np.zeros((len(origin),) * 2))
    for level in range(ladder.top, -1, -1):
        points = np.flatnonzero(standing.levels == level)
        points = points[np.argsort(standing.turns[points], kind="stable")]
        if level == ladder.top:
            known = _count_out(given, points, known, found)
        elif len(points):
            with np.errstate(all="ignore"):  # what overflows has no bar, and so goes to the top
                known = _step(given, level, points, known, found)
    return found


def standard_errors(
    ladder: Ladder, standing: Standing, means: Floats, values: Sequence[NDArray[np.floating]]
) -> Floats:
    """Return what a full sweep would give as the standard errors of its means [G]: sd (N - 1) / sqrt(N).

    They say how far the mean of N examples is from the mean of all examples that there might be. Bars say how far the
    estimate is from the mean of the N. Below the top the variance among examples is estimated from the prefix,
    n / (n - 1) sum d (y - mean)^2 / sum d (SSW 5.9); NaN where there is no mean.
    """
    found = np.full(len(means), np.nan)
    for level in range(ladder.top):
        points = np.flatnonzero((standing.levels == level) & np.isfinite(means))
        n, design = ladder.prefixes[level], 1.0 / ladder.pi[level]
        with np.errstate(all="ignore"):
            squares = np.square(_columns(values, points, n) - means[points])
            found[points] = np.sqrt(design @ squares / design.sum() * (n / (n - 1)) / ladder.frame.examples)
    for point in np.flatnonzero(standing.levels == ladder.top).tolist():
        found[point] = mean_and_error(np.asarray(values[point], np.float64))[1]
    return found


def _columns(values: Sequence[NDArray[np.floating]], points: Ints, n: int) -> Floats:
    """Return the first n values of some points, float64 [n, points]."""
    columns = np.empty((n, len(points)))
    for column, point in enumerate(points.tolist()):
        columns[:, column] = values[point][:n]
    return columns


def _count_out(given: _Given, points: Ints, known: _Known, found: Estimates) -> _Known:
    """Fill in the points whose values are all there, and return the finite ones as known without error."""
    found.means[points] = [exact_mean(given.values[point]) for point in points]
    found.variances[points] = 0.0
    points = points[np.isfinite(found.means[points])]
    return _extended(
        known, points, found.means[points], np.zeros((len(known.points), len(points))), np.zeros((len(points),) * 2)
    )


@dataclass(frozen=True)
class _Step:
    """The regressors x [n, k] of a level and their calibration; `used` [j]: which known points are the last j of x."""

    calibration: Calibration
    regressors: Floats
    pi: Floats
    used: Ints


def _step(given: _Given, level: int, points: Ints, known: _Known, found: Estimates) -> _Known:
    """Fill in the points of a level below the top, and return what is known with them."""
    columns = given.columns(points, given.ladder.prefixes[level])
    finite = np.isfinite(columns).all(axis=0)
    points, columns = points[finite], columns[:, finite]
    step = _support(given, level, known)
    b = step.calibration.coefficients(columns)
    errors = noise(step.calibration, step.pi, columns - step.regressors @ b)
    b_known = b[len(b) - len(step.used) :]
    with_known = b_known.T @ known.covariances[step.used]
    through_known = with_known[:, step.used] @ b_known
    found.means[points] = step.calibration.weights @ columns
    found.variances[points] = through_known.diagonal() + np.square(errors).sum(axis=0)
    found.noise[:, points] = errors[: given.ladder.prefixes[0]]
    found.magnitudes[points] = 1.0 / step.pi @ np.abs(columns) / (1.0 / step.pi).sum()
    found.freedom[points] = freedom(errors)
    if level == 0:
        return known
    return _extended(known, points, found.means[points], with_known.T, through_known + errors.T @ errors)


def _support(given: _Given, level: int, known: _Known) -> _Step:
    """Calibrate the prefix n on its strata and on as many of the known points as it can bear."""
    ladder = given.ladder
    frame, n, pi = ladder.frame, ladder.prefixes[level], ladder.pi[level]
    indicators, shares = strata(frame.classes[:n], frame.classes, max(1, n // PER_STRATUM))
    borne = slice(0, max(0, n // PER_REGRESSOR - len(shares)))
    regressors = np.hstack([indicators, given.columns(known.points[borne], n)])
    calibration = calibrate(regressors, 1.0 / pi, np.concatenate([shares, known.means[borne]]))
    kept = calibration.kept
    return _Step(calibration, regressors[:, kept], pi, kept[kept >= len(shares)] - len(shares))


def _extended(known: _Known, points: Ints, means: Floats, crossed: Floats, covariances: Floats) -> _Known:
    """Add points with their covariances [P, P] among themselves and `crossed` [K, P] with those known before."""
    block = np.block([[known.covariances, crossed], [crossed.T, covariances]])
    return _Known(np.concatenate([known.points, points]), np.concatenate([known.means, means]), block)
