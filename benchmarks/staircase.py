"""Error, coverage and cost of the prefix staircase, on real per-example losses: no network runs, the losses are given.

    python benchmarks/staircase.py --losses FILE [--draws 25] [--json FILE]

FILE is an npz with `losses` [points, examples] and `labels` [examples], theta* in the middle of the points. N = 50,000
is emulated: every example is there 50 times, with order keys of its own, and the truth is the mean over the 1,000. A
draw is a seed of the order. The method has no setting that these figures were used to choose. Hits are not recorded;
more than half of the probability on the right class stands in for one. 2,601 points for the time are made by mixing
pairs.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.sampling import (
    Frame,
    Rounds,
    Verdict,
    judge,
    make_frame,
    points_to_audit,
    run,
)

ERRORS = (0.1, 0.05, 0.02)
AUDITED = 32
ROUNDING = 1e-12
"""Relative: what a weighted mean is off where the regression is exact."""


@dataclass(frozen=True)
class Emulation:
    """`losses` float64 [points, examples], `labels` [examples]; every example is there `copies` times."""

    losses: NDArray[np.float64]
    labels: NDArray[np.integer]
    copies: int = 50

    @classmethod
    def load(cls, path: Path, copies: int = 50) -> "Emulation":
        """Read the losses that FILE holds."""
        with np.load(path) as stored:
            return cls(stored["losses"].astype(np.float64), stored["labels"], copies)

    @cached_property
    def hits(self) -> NDArray[np.bool_]:
        """What stands in for right answers [points, examples]."""
        return self.losses < np.log(2)

    @cached_property
    def truths(self) -> NDArray[np.float64]:
        """Mean losses [points]."""
        return self.losses.mean(axis=1)

    @cached_property
    def accuracies(self) -> NDArray[np.float64]:
        """Percent [points]."""
        return 100 * self.hits.mean(axis=1)

    @cached_property
    def origin(self) -> PerExample:
        """What theta* gives for all N examples."""
        centre = len(self.losses) // 2
        hits = np.repeat(self.hits[centre], self.copies)
        return PerExample(np.repeat(self.losses[centre], self.copies), {"acc": hits})

    def frame(self, seed: int) -> Frame:
        """Return the order of a draw."""
        return make_frame(self.origin.losses, np.repeat(self.labels, self.copies), seed)

    def evaluate(self, point: int, images: NDArray[np.int64]) -> PerExample:
        """Stand in for the engine."""
        images = images // self.copies
        return PerExample(self.losses[point, images], {"acc": self.hits[point, images]})

    def draw(self, error: float, seed: int, frame: Frame | None = None) -> Rounds:
        """Run all rounds on the order of a seed, or on another."""
        rounds = Rounds(frame or self.frame(seed), self.origin, len(self.losses), error)
        run(rounds, self.evaluate)
        return rounds


@dataclass(frozen=True)
class Outcome:
    """What a draw gave: relative errors [points], and shares of points whose error is within bar and target."""

    errors: NDArray[np.float64]
    covered: float
    within: float
    accuracy_covered: float
    accuracy_bar: float
    used: float
    rounds: int
    audit: Verdict


def outcome(emulation: Emulation, rounds: Rounds, seed: int) -> Outcome:
    """Compare a draw with the truth."""
    loss, truths = rounds.estimates(LOSS)["loss"], emulation.truths
    accuracy = rounds.estimates(ACCURACY)["acc"]
    off = np.abs(loss.means - truths)
    off[off <= ROUNDING * np.abs(truths)] = 0
    accuracy_off = np.abs(accuracy.means - emulation.accuracies)
    audited = points_to_audit(rounds.standing.levels, rounds.ladder.top, AUDITED, seed)
    return Outcome(
        errors=off / np.abs(truths),
        covered=float((off <= loss.bars).mean()),
        within=float((off <= rounds.error * np.abs(truths)).mean()),
        accuracy_covered=float((accuracy_off <= accuracy.bars + 100 * ROUNDING).mean()),
        accuracy_bar=float(np.median(accuracy.bars)),
        used=rounds.used,
        rounds=len(rounds.log),
        audit=judge(loss.means[audited], loss.bars[audited], truths[audited], rounds.error),
    )


@dataclass(frozen=True)
class Row:
    """Figures of a target. Errors in percent; means over draws, save the extremes; accuracies' bars in percent."""

    target: float
    draws: int
    error_median: float
    error_95: float
    error_largest: float
    covered: float
    covered_least: float
    covered_most: float
    within: float
    within_least: float
    used: float
    factor: float
    rounds: float
    audits_passed: int
    accuracy_covered: float
    accuracy_bar: float
    cpu_s: float


def measure(emulation: Emulation, error: float, draws: int) -> Row:
    """Draw orders and average: the error figures are taken over the points of a draw, then averaged over draws."""
    started = time.process_time()
    outcomes = [outcome(emulation, emulation.draw(error, seed), seed) for seed in range(draws)]
    quantiles = 100 * np.mean([np.quantile(each.errors, (0.5, 0.95, 1)) for each in outcomes], axis=0)
    covered = [each.covered for each in outcomes]
    used = mean(each.used for each in outcomes)
    return Row(
        100 * error,
        draws,
        *quantiles.tolist(),
        mean(covered),
        min(covered),
        max(covered),
        mean(each.within for each in outcomes),
        min(each.within for each in outcomes),
        used,
        1 / used,
        mean(each.rounds for each in outcomes),
        sum(each.audit.passed for each in outcomes),
        mean(each.accuracy_covered for each in outcomes),
        mean(each.accuracy_bar for each in outcomes),
        (time.process_time() - started) / draws,
    )


def estimation_seconds(emulation: Emulation, error: float = 0.02, points: int = 2601, repeats: int = 5) -> float:
    """Return the CPU seconds to estimate so many points again after the rounds: the median of a few times."""
    generator = np.random.default_rng(0)
    pairs = generator.integers(len(emulation.losses), size=(2, points - len(emulation.losses)))
    share = generator.random((pairs.shape[1], 1))
    mixed = share * emulation.losses[pairs[0]] + (1 - share) * emulation.losses[pairs[1]]
    many = Emulation(np.concatenate([emulation.losses, mixed]), emulation.labels, emulation.copies)
    small = emulation.draw(error, 0)
    log = [*small.log, []]
    rounds = Rounds(many.frame(0), emulation.origin, points, error, log)
    for _ in log:
        for request in rounds.next():
            rounds.take(request, many.evaluate(request.point, rounds.ladder.frame.order[request.start : request.stop]))
    return median(_timed(rounds) for _ in range(repeats))


def _timed(rounds: Rounds) -> float:
    anew = rounds.knowing({})  # without the estimates that rounds keep until more comes
    started = time.process_time()
    anew.estimates(LOSS)
    return time.process_time() - started


def table(rows: Sequence[Row], seconds: float) -> str:
    """Return the figures as text."""
    heads = (
        "target",
        "error: median / 95th / largest",
        "covered (range)",
        "within (least)",
        "used",
        "factor",
        "rounds",
    )
    heads = (*heads, "audits passed", "accuracy: covered, bar", "CPU s")
    lines = [heads, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("   ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return f"{text}\nestimating 2,601 points again after the rounds at 2 %: {seconds:.2f} s of CPU time"


def cells(row: Row) -> tuple[str, ...]:
    """Return the columns of a row."""
    return (
        f"{row.target:.0f} %",
        f"{row.error_median:.2f} / {row.error_95:.2f} / {row.error_largest:.2f} %",
        f"{row.covered:.3f} ({row.covered_least:.3f}-{row.covered_most:.3f})",
        f"{row.within:.3f} ({row.within_least:.3f})",
        f"{row.used:.2%}",
        f"{row.factor:.1f}",
        f"{row.rounds:.1f}",
        f"{row.audits_passed} of {row.draws}",
        f"{row.accuracy_covered:.3f}, {row.accuracy_bar:.2f} %",
        f"{row.cpu_s:.2f}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and, where asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=Path, required=True, help="npz with losses and labels")
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    emulation = Emulation.load(options.losses)
    with threadpool_limits(1, user_api="blas"):  # as in a sweep
        rows = [measure(emulation, error, options.draws) for error in ERRORS]
        seconds = estimation_seconds(emulation)
    sys.stdout.write(table(rows, seconds) + "\n")
    if options.json:
        figures = {"rows": [asdict(row) for row in rows], "estimate_2601_points_cpu_s": seconds}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
