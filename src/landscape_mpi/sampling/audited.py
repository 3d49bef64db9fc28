"""An audit on the way: some points on all images once the plan is frozen, then the verdict; knows arrays only."""

from dataclasses import astuple

import numpy as np

from landscape_mpi.sampling.audit import Verdict, judge, points_to_audit
from landscape_mpi.sampling.rounds import Estimated, Hits, PerImage, Request, Rounds, Values
from landscape_mpi.sums import exact_mean, mean_and_error


class Audit:
    """Some points of a frozen plan on all images; their means then stand in the place of their estimates."""

    def __init__(self, rounds: Rounds, count: int, seed: int) -> None:
        """Choose up to `count` points by seed; `requests` says what they lack."""
        self._rounds = rounds
        self._loss = rounds.loss()
        self._accuracy = rounds.accuracy() if rounds.has_hits else None
        levels, stops = rounds.standing.levels, rounds.ladder.prefixes
        points = points_to_audit(levels, rounds.ladder.top, count, seed).tolist()
        self.requests = tuple(Request(point, stops[levels[point]], stops[-1]) for point in points)
        self._truths: dict[int, PerImage] = {}

    def take(self, request: Request, losses: Values, hits: Hits | None = None) -> None:
        """Take what a point gave on the images that it lacked."""
        known = self._rounds.taken(request.point)
        whole = None if hits is None or known.hits is None else np.concatenate([known.hits, hits])
        self._truths[request.point] = PerImage(np.concatenate([known.losses, losses]), whole)

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that came back."""
        lacked = sum(request.stop - request.start for request in self.requests if request.point in self._truths)
        return lacked / (len(self._loss.means) * self._rounds.ladder.frame.images)

    @property
    def verdict(self) -> Verdict:
        """What the points that came back say of the bars of the frozen plan's losses."""
        points = sorted(self._truths)
        truths = np.array([exact_mean(self._truths[point].losses) for point in points])
        return judge(self._loss.means[points], self._loss.bars[points], truths, self._rounds.error)

    def loss(self) -> Estimated:
        """Return the frozen plan's losses, with those over all images at the points that came back."""
        return _with(self._loss, {point: truth.losses for point, truth in self._truths.items()})

    def accuracy(self) -> Estimated:
        """Return the frozen plan's accuracies, with those over all images at the points that came back.

        Raises:
            RuntimeError: there are no hits.
        """
        if self._accuracy is None:
            raise RuntimeError("there are no hits, so no accuracy; expected them from theta* on.")
        exact = {point: 100.0 * truth.hits for point, truth in self._truths.items() if truth.hits is not None}
        return _with(self._accuracy, exact)


def _with(estimated: Estimated, truths: dict[int, Values]) -> Estimated:
    """Put exact means, without a bar, in the places of estimates."""
    means, bars, images, errors = (array.copy() for array in astuple(estimated))
    for point, values in truths.items():
        means[point], errors[point] = mean_and_error(np.asarray(values, np.float64))
        bars[point], images[point] = 0.0, len(values)
    return Estimated(means, bars, images, errors)
