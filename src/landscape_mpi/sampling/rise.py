"""Makes bars of f - f(0, 0) from the differences from theta*, by example, and from a few points on all examples.

The losses at theta* are known on all examples, so f(0, 0) has no error. The bar of the rise is that of f, and the mean
of the differences l_i - l_i* is estimated. Near theta* these are far smaller than the losses, and a few examples that
are easy at theta* may carry all of them. Two things keep the bars wide enough. `pilots` are evaluated on all examples
before there is an order, and the examples that rise most there are taken first. Bars are those of Student's t, with the
degrees of freedom that the squared noise shows: these are few where few examples carry the variance.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.metrics.examples import exact_mean
from landscape_mpi.sampling.estimate import Estimates, Standing, estimate, make_ladder
from landscape_mpi.sampling.order import Floats, example_sizes, make_frame

PILOTS, ONE_IN = 2, 12
"""The most points that are evaluated on all examples first, and at most one point in so many."""
DRAWS, MISSES = 32, 0.1
"""Orders on which the first level is tried, and the share of bars that may miss in them: 5 % of correct bars do."""
_TRIALS = 1 << 63
"""Streams of random numbers from here on are those of trials."""
_FREEDOM = np.array([1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, np.inf])
_STUDENT = np.array([12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.306, 2.228, 2.131, 2.086, 2.042, 2.000, 1.960])


def students(freedom: Floats) -> Floats:
    """Return the 97.5 % quantile of Student's t, by linear interpolation over 1 / freedom in a table.

    >>> students(np.array([1.0, 12.0, np.inf])).round(2).tolist()
    [12.71, 2.18, 1.96]
    """
    found: Floats = np.interp(1.0 / np.maximum(freedom, 1.0), 1.0 / _FREEDOM[::-1], _STUDENT[::-1])
    return found


def rise_bars(estimates: Estimates, first: int) -> Floats:
    """Return the 95 % error bars [G] of estimated rises: t sqrt(variance), no less than m / n_0.

    m is the mean size of a difference. The lower limit is for points where the regressors explain every example seen,
    but not a few unseen ones.

    Args:
        estimates: of the differences from theta*.
        first: n_0, the examples of the first level.
    """
    with np.errstate(all="ignore"):
        bars = students(estimates.freedom) * np.sqrt(estimates.variances)
    return np.maximum(bars, estimates.magnitudes / first)


def pilot_points(axes: Sequence[NDArray[np.float64]]) -> tuple[int, ...]:
    """Return the numbers of the points to evaluate on all examples first, row by row; the last axis counts slowest.

    They lie at distances from (0, 0) that split those of all points into equal parts, each in another direction: axes
    are scaled to reach as far as the first. There are none where the grid has fewer than 12 points.

    >>> pilot_points([np.linspace(-1, 1, 33)])
    (12, 27)
    """
    scaled = [axis / (np.abs(axis).max() or 1.0) for axis in reversed(axes)]
    places = np.stack(np.meshgrid(*scaled, indexing="ij"), -1).reshape(-1, len(scaled))
    distances = np.linalg.norm(places, axis=1)
    ranked = np.argsort(distances, kind="stable")
    count = min(PILOTS, len(places) // ONE_IN)
    chosen: list[int] = []
    for part in range(count):
        wanted = distances[ranked[(2 * part + 1) * len(ranked) // (2 * count)]]
        ring = np.flatnonzero(np.abs(distances - wanted) <= 0.1 * wanted)
        ring = np.setdiff1d(ring, chosen)
        if len(ring):
            # as far from those before as the ring allows; the first in the order of the grid
            units = places / np.maximum(distances, 1e-300)[:, None]
            nearest = (units[ring] @ units[chosen].T).max(axis=1) if chosen else np.zeros(len(ring))
            chosen.append(int(ring[np.argmin(nearest.round(9))]))
    return tuple(sorted(chosen))


def rise_sizes(reference: NDArray[np.floating], pilots: Iterable[NDArray[np.floating]]) -> Floats:
    """Return the size of each example [N]: half by its loss at theta*, and half by how much it changed at pilots.

    s_i = (s_i* + mean over pilots of |d_i| / D) / 2, d_i the difference from theta*, D the mean of |d|. Sampling
    proportional to size is best where sizes are proportional to the residuals of the values (SSW 3.6.2). No size is
    below a quarter of the average, so that a change that no pilot shows is not overlooked.
    """
    sizes = example_sizes(reference)
    ratios = []
    for values in pilots:
        changes = np.abs(np.asarray(values, np.float64) - reference)
        with np.errstate(all="ignore"):
            ratio = changes / changes.mean()
        if np.isfinite(ratio).all():
            ratios.append(ratio)
    return 0.5 * (sizes + np.mean(ratios, axis=0)) if ratios else sizes


def first_that_holds(
    reference: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
    pilots: Sequence[NDArray[np.floating]],
    levels: Sequence[int],
    error: float,
    floor: float,
    seed: int,
    pause: Callable[[], None] = lambda: None,
) -> int:
    """Return the examples of the first level on which bars hold at the points that are known already.

    Each pilot is estimated from prefixes like any other point, as if it had not been evaluated. This is done on 32
    orders made without it, from level to level until its bar is narrow enough. Where more than a tenth of these bars
    miss, few examples carry a rise that neither theta* nor the other pilots show. The next level is then tried, and in
    the end all examples.

    Args:
        reference: losses at theta* [N].
        labels: class of each example [N]; None where there are none.
        pilots: losses of each pilot [N].
        levels: the numbers of examples of the levels, the last being N.
        error: target, relative to the rise.
        floor: the narrowest bar that is asked for.
        seed: of the job.
        pause: called between two trials; what it raises ends them.
    """
    usable = [values for values in pilots if np.isfinite(values).all()]
    trials = [
        _Trial(reference, labels, values, [one for one in usable if one is not values], levels, seed, draw)
        for values in usable
        for draw in range(DRAWS)
    ]
    for place, first in enumerate(levels):
        misses = 0
        for trial in trials:
            pause()
            misses += trial.misses(place, error, floor)
        if misses <= MISSES * len(trials):
            return first
    return levels[-1]


class _Trial:
    """A pilot estimated on one order from the prefixes of the levels, each when it is asked for; keeps few numbers."""

    def __init__(
        self,
        reference: NDArray[np.floating],
        labels: NDArray[np.integer] | None,
        pilot: NDArray[np.floating],
        others: Sequence[NDArray[np.floating]],
        levels: Sequence[int],
        seed: int,
        draw: int,
    ) -> None:
        """Take what `first_that_holds` has been given, the pilot and the others apart."""
        self._reference, self._labels, self._pilot, self._others = reference, labels, pilot, others
        self._levels, self._seed, self._stream = levels, seed, _TRIALS + draw
        self._truth = exact_mean(pilot - reference)
        self._found: dict[int, Estimates] = {}

    def misses(self, place: int, error: float, floor: float) -> bool:
        """Whether the final bar of the estimate misses if the level at this place is the first one."""
        wanted = max(error * abs(self._truth), floor)
        for level in range(place, len(self._levels) - 1):
            if level not in self._found:
                self._found[level] = self._estimates(level)
            found = self._found[level]
            bar = rise_bars(found, self._levels[place])[-1]
            if bar <= wanted:
                return bool(abs(found.means[-1] - self._truth) > bar)
        return False

    def _estimates(self, level: int) -> Estimates:
        """Return the estimates of the pilots, this one last; without their noise, which is large."""
        sizes = rise_sizes(self._reference, self._others)
        frame = make_frame(self._reference, self._labels, self._seed, stream=self._stream, sizes=sizes)
        reference = np.asarray(self._reference, np.float64)[frame.order]
        values = [one[frame.order] - reference for one in (*self._others, self._pilot)]
        standing = Standing(np.array([1] * len(self._others) + [0]), np.arange(len(values)))
        found = estimate(make_ladder(frame, (self._levels[level], self._levels[-1])), standing, reference, values)
        return replace(found, noise=np.empty((0, len(values))))
