"""The rounds of a job: what to evaluate next, given what came back; knows neither engine nor ranks, and keeps no file.

    rounds = Rounds(frame, reference, points, error)
    while requests := rounds.next():
        for request in requests:                     # in any order, on any rank
            rounds.take(request, *evaluate(request.point, frame.order[request.start : request.stop]))
    loss = rounds.loss()

What is asked for depends on the results alone, never on the order in which they arrived.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.sampling.estimate import accuracy_bars, loss_bars
from landscape_mpi.sampling.levels import FULLEST, all_images_because, prefixes
from landscape_mpi.sampling.order import Floats, Frame, Ints
from landscape_mpi.sampling.plan import Promotion, outlook, promotions, stand
from landscape_mpi.sampling.staircase import Estimates, Standing, estimate, make_ladder, standard_errors

Values = NDArray[np.floating]
Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class Request:
    """A point to evaluate on the images at places `start` up to `stop` of the order."""

    point: int
    start: int
    stop: int


@dataclass(frozen=True)
class Estimated:
    """Of every point: `means` [G], 95 % error `bars` [G] and `images` int64 [G], how many were used.

    A point with no results yet has NaN, infinity and 0; one on all images its exact mean, finite or not, and bar 0.
    `errors` [G]: what a full sweep would give as the standard errors of its means (see `standard_errors`).
    """

    means: Floats
    bars: Floats
    images: Ints
    errors: Floats


@dataclass(frozen=True)
class PerImage:
    """What each of some images gave at a point: `losses` [n] and, where there is an accuracy, `hits` bool [n]."""

    losses: Values
    hits: Hits | None = None


class Rounds:
    """Decides round by round; `log` is the plan so far, `why_all` why all images are used where they are."""

    def __init__(
        self, frame: Frame, origin: PerImage, points: int, error: float, log: Sequence[Sequence[Promotion]] = ()
    ) -> None:
        """Start a job of so many points.

        Args:
            frame: the images in order.
            origin: what theta* gave for all of them, in the order of the data.
            points: G.
            error: target, the largest relative 95 % error bar of the loss.
            log: of an earlier run: these rounds are repeated before any is decided.
        """
        self.ladder = make_ladder(frame, prefixes(error, frame.images))
        self.error = error
        self.log: list[tuple[Promotion, ...]] = []
        self.why_all = all_images_because(error, frame.images)
        self._origin = PerImage(origin.losses[frame.order], None if origin.hits is None else origin.hits[frame.order])
        self._replay = [tuple((int(point), int(level)) for point, level in one_round) for one_round in log]
        self._losses: list[Values] = [np.empty(0)] * points
        self._hits: list[Hits] = [np.empty(0, np.bool_)] * points
        self._lost: set[int] = set()
        self._awaited: set[Request] | None = None

    @property
    def standing(self) -> Standing:
        """Where the points stand by what has come back: level -1 as long as the first level has not."""
        reached = np.searchsorted(self.ladder.prefixes, [len(values) for values in self._losses], side="right") - 1
        return replace(stand(len(self._losses), self.log), levels=reached)

    @property
    def repeated(self) -> int:
        """How many rounds, the first ones, are those of the earlier run."""
        return len(self._replay)

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that have come back."""
        return sum(map(len, self._losses)) / (len(self._losses) * self.ladder.frame.images)

    @property
    def has_hits(self) -> bool:
        """Whether there is an accuracy."""
        return self._origin.hits is not None

    def taken(self, point: int) -> PerImage:
        """Return what has come back for a point, in the frame's order."""
        return PerImage(self._losses[point], self._hits[point] if self.has_hits else None)

    def next(self) -> tuple[Request, ...]:
        """Return what to evaluate now, the worst first; nothing once all bars hold.

        Raises:
            RuntimeError: results of the round before are still awaited.
        """
        if self._awaited:
            raise RuntimeError(f"{len(self._awaited)} results of this round are awaited; take them before the next.")
        first = self._awaited is None
        requests = self._requests((point, 0) for point in range(len(self._losses))) if first else ()
        while not first and not requests and (aims := self._decide()):
            self.log.append(aims)
            requests = self._requests(aims)
        self._awaited = set(requests)
        return requests

    def take(self, request: Request, losses: Values, hits: Hits | None = None) -> None:
        """Take the results of a request: losses [stop - start] and, where there is an accuracy, hits, as asked.

        Raises:
            ValueError: it is not awaited, or there is not one value an image.
        """
        expected = request.stop - request.start
        if len(losses) != expected or (hits is None) != (self._origin.hits is None):
            raise ValueError(
                f"{request} came back with {len(losses)} losses; expected {expected}, and hits as at theta*."
            )
        self._end(request)
        self._losses[request.point] = np.concatenate([self._losses[request.point], losses])
        if hits is not None:
            self._hits[request.point] = np.concatenate([self._hits[request.point], hits])

    def lose(self, request: Request) -> None:
        """Give up a point whose evaluation failed: it has no estimate, and the others go on without it.

        Raises:
            ValueError: it is not awaited.
        """
        self._end(request)
        self._lost.add(request.point)
        self._losses[request.point], self._hits[request.point] = np.empty(0), np.empty(0, np.bool_)

    def loss(self) -> Estimated:
        """Return mean losses with their bars, from all that has come back."""
        standing = self.standing
        found, bars = self._loss(standing)
        return self._estimated(standing, found.means, bars, self._losses)

    def accuracy(self) -> Estimated:
        """Return accuracies in percent with bars of their own, from all that has come back: the same staircase on hits.

        Raises:
            RuntimeError: there are no hits.
        """
        if self._origin.hits is None:
            raise RuntimeError("there are no hits, so no accuracy; expected them from theta* on.")
        standing, values = self.standing, [100.0 * hits for hits in self._hits]
        found = estimate(self.ladder, standing, 100.0 * self._origin.hits, values)
        bars = accuracy_bars(found.variances, np.maximum(self._images(standing), 1))
        return self._estimated(standing, found.means, bars, values)

    @property
    def outlook(self) -> int:
        """About how many images the rounds to come take at most; 0 once all bars hold."""
        standing = self.standing
        if self.why_all:
            return int((self.ladder.frame.images - self._images(standing)).sum())
        found, bars = self._loss(standing)
        return outlook(self.ladder, standing, found, bars, self.error)

    def _requests(self, aims: Iterable[Promotion]) -> tuple[Request, ...]:
        """Return what the points lack that were not lost."""
        stops, lost = self.ladder.prefixes, self._lost
        return tuple(Request(g, len(self._losses[g]), stops[level]) for g, level in aims if g not in lost)

    def _end(self, request: Request) -> None:
        if not self._awaited or request not in self._awaited:
            raise ValueError(f"{request} is not awaited; expected one of the round's; take each request once.")
        self._awaited.remove(request)

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
        found, bars = self._loss(standing)
        return promotions(self.ladder, standing, found, bars, self.error)

    def _loss(self, standing: Standing) -> tuple[Estimates, Floats]:
        found = estimate(self.ladder, standing, self._origin.losses, self._losses)
        return found, loss_bars(found.means, found.variances, self.ladder.prefixes[0])

    def _estimated(self, standing: Standing, means: Floats, bars: Floats, values: Sequence[Values]) -> Estimated:
        """Put exact points at a bar of 0 and unknown ones at infinity."""
        exact, known = standing.levels == self.ladder.top, ~np.isnan(means)
        bars = np.where(exact, 0.0, np.where(known, bars, np.inf))
        return Estimated(means, bars, self._images(standing), standard_errors(self.ladder, standing, means, values))

    def _images(self, standing: Standing) -> Ints:
        """Return how many images each point stands on."""
        return np.where(standing.levels < 0, 0, np.array(self.ladder.prefixes)[standing.levels])


def run(rounds: Rounds, evaluate: Callable[[int, Ints], tuple[Values, Hits | None]]) -> None:
    """Run all rounds here: `evaluate` gets a point and images, and returns losses and hits in their order."""
    while requests := rounds.next():
        for request in requests:
            images = rounds.ladder.frame.order[request.start : request.stop]
            rounds.take(request, *evaluate(request.point, images))
