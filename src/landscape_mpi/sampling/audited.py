"""An audit on the way: some points on all images once the plan is frozen, then the verdict; knows arrays only."""

from dataclasses import astuple

import numpy as np

from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.metrics.loss import LOSS
from landscape_mpi.sampling.audit import Verdict, judge, points_to_audit
from landscape_mpi.sampling.rounds import Estimated, Request, Rounds
from landscape_mpi.sums import exact_mean, mean_and_error


class Audit:
    """Some points of a frozen plan on all images; their means then stand in the place of their estimates."""

    def __init__(self, rounds: Rounds, count: int, seed: int) -> None:
        """Choose up to `count` points by seed; `requests` says what they lack."""
        self._rounds = rounds
        self._frozen: dict[str, dict[str, Estimated]] = {}
        self._loss = self._plan(LOSS)["loss"]
        levels, stops = rounds.standing.levels, rounds.ladder.prefixes
        points = points_to_audit(levels, rounds.ladder.top, count, seed).tolist()
        self.requests = tuple(Request(point, stops[levels[point]], stops[-1]) for point in points)
        self._truths: dict[int, PerExample] = {}

    def take(self, request: Request, found: PerExample) -> None:
        """Take what a point gave on the images that it lacked."""
        self._truths[request.point] = PerExample.join([self._rounds.taken(request.point), found])

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

    def estimates(self, metric: Metric) -> dict[str, Estimated]:
        """Return the frozen plan's means of a metric's results, exact and without a bar at the points that came back.

        Raises:
            KeyError: theta* gave no such results.
        """
        found = {}
        for result in metric.results:
            means, bars, images, errors = (array.copy() for array in astuple(self._plan(metric)[result.name]))
            for point, truth in self._truths.items():
                means[point], errors[point] = mean_and_error(np.asarray(truth.numbers(result), np.float64))
                bars[point], images[point] = 0.0, len(truth)
            found[result.name] = Estimated(means, bars, images, errors)
        return found

    def _plan(self, metric: Metric) -> dict[str, Estimated]:
        """Return the estimates of the frozen plan, which no audit changes."""
        if metric.key not in self._frozen:
            self._frozen[metric.key] = self._rounds.estimates(metric)
        return self._frozen[metric.key]
