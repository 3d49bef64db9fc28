"""Decides which examples to evaluate next at which points, from the results so far, and estimates the means.

    rounds = Rounds(frame, reference, points, error)
    while requests := rounds.next():
        for request in requests:                     # in any order, on any rank
            rounds.take(request, evaluate(request.point, frame.order[request.start : request.stop]))
    loss = rounds.estimates(LOSS)["loss"]

What is asked for depends on the results alone, never on the order in which they arrived.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from landscape_mpi.metrics.base import LOSS, QUANTILE, Bars, Metric, Result, relative_floor, rule_of_three
from landscape_mpi.metrics.examples import PerExample, exact_mean
from landscape_mpi.sampling.estimate import Estimates, Standing, estimate, make_ladder, standard_errors
from landscape_mpi.sampling.order import Floats, Frame, Ints
from landscape_mpi.sampling.plan import (
    FULLEST,
    Of,
    Promotion,
    all_examples_because,
    outlook,
    prefixes,
    promotions,
    stand,
)
from landscape_mpi.sampling.rise import rise_bars, students

LATE = 1 << 62
"""The turn of points evaluated first, after the turns of all promotions; points of an audit come later still."""


@dataclass(frozen=True)
class Request:
    """A point to evaluate on the examples at places `start` up to `stop` of the order."""

    point: int
    start: int
    stop: int


@dataclass(frozen=True)
class Estimated:
    """Of every point: `means` [G], 95 % error `bars` [G] and `examples` int64 [G], how many were used.

    A point with no results yet has NaN, infinity and 0. A point on all examples has its exact mean, finite or not, and
    bar 0. `errors` [G]: what a full sweep would give as the standard errors of its means (see `standard_errors`).
    """

    means: Floats
    bars: Floats
    examples: Ints
    errors: Floats


class Rounds:
    """Decides round by round; `log` is the plan so far, `why_all` says why all examples are used, if they are."""

    def __init__(
        self,
        frame: Frame,
        origin: PerExample,
        points: int,
        error: float,
        log: Sequence[Sequence[Promotion]] = (),
        floor: float | None = None,
        pilots: Mapping[int, PerExample] = MappingProxyType({}),
        first: int | None = None,
        own: int | None = None,
    ) -> None:
        """Start a job of so many points.

        Args:
            frame: the examples in order.
            origin: what theta* gave for all of them, in the order of the data.
            points: G.
            error: target, the largest relative 95 % error bar of the loss.
            log: of an earlier run: these rounds are repeated before any is decided.
            floor: None for bars relative to the loss; else they are relative to its rise above f(0, 0), and never asked
                to be narrower than this share of f(0, 0).
            pilots: results of the points that have been evaluated on all examples, in the order of the data.
            first: examples of the first level, one of those of the levels; None for what the target asks for.
            own: the point at which theta* itself lies: what it gives is known, and not evaluated again. None for none.
        """
        of: Of = "loss" if floor is None else "rise"
        levels = prefixes(error, frame.examples, of)
        levels = levels if first is None else levels[levels.index(first) :]
        self.ladder = make_ladder(frame, levels)
        self.error, self.of = error, of
        self.log: list[tuple[Promotion, ...]] = []
        self.why_all = all_examples_because(error, frame.examples, of)
        if len(levels) == 1 and not self.why_all:
            self.why_all = "the bars of points that are known would not hold on fewer"
        self._origin = origin[frame.order]
        self._replay = [tuple((int(point), int(level)) for point, level in one_round) for one_round in log]
        self._found = [origin[:0]] * points
        for point, found in pilots.items():
            self._found[point] = found[frame.order]
        if own is not None:
            self._found[own] = self._origin
        self.centre = exact_mean(origin.losses)
        self.least = 0.0
        if floor is not None and not self.why_all:
            self.least = floor * abs(self.centre) / error
            if not math.isfinite(self.centre):
                self.why_all = "f(0, 0) is not finite, so there is no rise above it"
        self._pilots, self._told = tuple(pilots), tuple[int, ...]()
        self._lost: set[int] = set()
        self._awaited: set[Request] | None = None
        self._loss_estimates: tuple[Estimates, Floats] | None = None

    @property
    def standing(self) -> Standing:
        """The levels of the points by the results so far: -1 until the first level has come back."""
        reached = np.searchsorted(self.ladder.prefixes, [len(found) for found in self._found], side="right") - 1
        turns = stand(len(self._found), self.log).turns
        turns[list(self._pilots)] = LATE
        # a point that was promoted keeps its turn
        told = np.array([point for point in self._told if turns[point] > LATE], np.int64)
        turns[told] = LATE + 1 + np.arange(len(told))
        return Standing(reached, turns)

    @property
    def scale(self) -> tuple[float, float]:
        """The loss above which the target counts, f(0, 0) or 0, and what smaller heights above it count as."""
        return (self.centre, self.least) if self.of == "rise" else (0.0, 0.0)

    @property
    def repeated(self) -> int:
        """How many of the first rounds are those of the earlier run."""
        return len(self._replay)

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that have come back, those at theta* included where it is a point."""
        return sum(map(len, self._found)) / (len(self._found) * self.ladder.frame.examples)

    @property
    def others(self) -> frozenset[str]:
        """The names of the results beside the loss."""
        return frozenset(self._origin.others)

    def taken(self, point: int) -> PerExample:
        """Return what has come back for a point, in the frame's order."""
        return self._found[point]

    def knowing(self, truths: Mapping[int, PerExample]) -> "Rounds":
        """Return these rounds with some points on all examples, in the frame's order, beside those that are already.

        Where examples are too few to use all points as regressors, these come after the others, in the order given.
        """
        known = copy(self)
        known._told, known._loss_estimates = tuple(truths), None
        known._found = [truths.get(point, found) for point, found in enumerate(self._found)]
        return known

    def next(self) -> tuple[Request, ...]:
        """Return what to evaluate now, the worst first; nothing once all bars hold.

        Raises:
            RuntimeError: results of the round before are still awaited.
        """
        if self._awaited:
            raise RuntimeError(f"{len(self._awaited)} results of this round are awaited; take them before the next.")
        first = self._awaited is None
        new = (point for point, found in enumerate(self._found) if not len(found))  # pilots have results
        requests = self._requests((point, 0) for point in new) if first else ()
        while not first and not requests and (aims := self._decide()):
            self.log.append(aims)
            requests = self._requests(aims)
        self._awaited = set(requests)
        return requests

    def take(self, request: Request, found: PerExample) -> None:
        """Take what a request gave, [stop - start] of all that theta* gave.

        Raises:
            ValueError: it is not awaited, or there is not one value per example.
        """
        expected = request.stop - request.start
        if len(found) != expected or set(found.others) != self.others:
            raise ValueError(
                f"{request} came back with {len(found)} losses and {sorted(found.others)}; expected {expected}, and "
                f"{sorted(self.others)} as at theta*."
            )
        self._end(request)
        self._found[request.point] = PerExample.join([self._found[request.point], found])

    def lose(self, request: Request) -> None:
        """Give up a point whose evaluation failed: it has no estimate, and the others go on without it.

        Raises:
            ValueError: it is not awaited.
        """
        self._end(request)
        self._lost.add(request.point)
        self._found[request.point] = self._origin[:0]

    def estimates(self, metric: Metric) -> dict[str, Estimated]:
        """Return the means of a metric's results with bars of their own, from all that has come back, by their names.

        Raises:
            KeyError: theta* gave no such results.
        """
        standing, estimated = self.standing, {}
        examples = self._examples(standing)
        for result in metric.results:
            every = [one.numbers(result) for one in (self._origin, *self._found)]
            shares = result not in LOSS.results and all(((values == 0) | (values == 1)).all() for values in every)
            bars = rule_of_three if shares and metric.bars is relative_floor else metric.bars
            steers = result is LOSS.results[0]
            found, widths = self._loss() if steers else self._staircase(standing, result, bars)
            means = found.means.copy()
            if self._rises(result):  # what stands on all examples has the mean that a full sweep gives, to the last bit
                with np.errstate(invalid="ignore"):
                    means = self.centre + found.means
                for point in np.flatnonzero(standing.levels == self.ladder.top).tolist():
                    means[point] = exact_mean(self._found[point].losses)
            # exact points have a bar of 0, unknown ones an infinite one
            exact, known = standing.levels == self.ladder.top, ~np.isnan(means)
            widths = np.where(exact, 0.0, np.where(known, widths, np.inf))
            errors = standard_errors(self.ladder, standing, means, every[1:])
            estimated[result.name] = Estimated(means, widths, examples, errors)
        return estimated

    @property
    def outlook(self) -> int:
        """About how many examples the rounds to come take at most; 0 once all bars hold."""
        standing = self.standing
        if self.why_all:
            return int((self.ladder.frame.examples - self._examples(standing)).sum())
        found, bars = self._loss()
        return outlook(self.ladder, standing, found, bars, self.error, self.least)

    def _requests(self, aims: Iterable[Promotion]) -> tuple[Request, ...]:
        """Return requests for what the points lack, without points that were lost."""
        stops, lost = self.ladder.prefixes, self._lost
        return tuple(Request(g, len(self._found[g]), stops[level]) for g, level in aims if g not in lost)

    def _end(self, request: Request) -> None:
        if not self._awaited or request not in self._awaited:
            raise ValueError(f"{request} is not awaited; expected one of the round's; take each request once.")
        self._awaited.remove(request)
        self._loss_estimates = None

    def _decide(self) -> tuple[Promotion, ...]:
        """Return the promotions of the next round, from the log of the earlier run as long as that has any."""
        standing = self.standing
        if not self.why_all and self.used > FULLEST:
            self.why_all = f"{self.used:.0%} of the evaluations were not enough, so the rest is made too"
        if len(self.log) < len(self._replay):
            return self._replay[len(self.log)]
        if self.why_all:
            below = np.flatnonzero((standing.levels >= 0) & (standing.levels < self.ladder.top))
            return tuple((int(point), self.ladder.top) for point in below)
        found, bars = self._loss()
        return promotions(self.ladder, standing, found, bars, self.error, self.least)

    def _loss(self) -> tuple[Estimates, Floats]:
        """Return the estimates of the loss, which decides what is promoted, with their bars; kept until more comes."""
        if self._loss_estimates is None:
            self._loss_estimates = self._staircase(self.standing, LOSS.results[0], LOSS.bars)
        return self._loss_estimates

    def _staircase(self, standing: Standing, result: Result, bars: Bars) -> tuple[Estimates, Floats]:
        values, origin = [found.numbers(result) for found in self._found], self._origin.numbers(result)
        if self._rises(result):
            with np.errstate(invalid="ignore"):
                values = [losses - origin[: len(losses)] for losses in values]
            found = estimate(self.ladder, standing, origin, values)
            return found, rise_bars(found, self.ladder.prefixes[0])
        found = estimate(self.ladder, standing, origin, values)
        variances = found.variances
        if bars is relative_floor:  # bars of shares have a floor of their own for what few examples carry
            variances = variances * np.square(students(found.freedom) / QUANTILE)
        return found, bars(found.means, variances, self._examples(standing), self.ladder.prefixes[0])

    def _rises(self, result: Result) -> bool:
        """Whether a result is estimated as a difference from theta*."""
        return self.of == "rise" and result in LOSS.results

    def _examples(self, standing: Standing) -> Ints:
        """Return how many examples each point stands on."""
        return np.where(standing.levels < 0, 0, np.array(self.ladder.prefixes)[standing.levels])


def run(rounds: Rounds, evaluate: Callable[[int, Ints], PerExample]) -> None:
    """Run all rounds here: `evaluate` gets a point and examples, and returns what these give, in their order."""
    while requests := rounds.next():
        for request in requests:
            examples = rounds.ladder.frame.order[request.start : request.stop]
            rounds.take(request, evaluate(request.point, examples))
