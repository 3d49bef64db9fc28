"""Coverage of error bars on data made to deceive them: losses are arrays, so the truth is known at every point.

    python benchmarks/hostile.py [--draws 20] [--only WORDS] [--losses FILE]

Each case is a plane of 9 x 9 points with theta* in its middle. It is estimated on some orders of its examples with bars
of the loss and with bars of the rise, both at 5 %, and audited as a sweep would be. `covered` is the mean over orders
of the share of points whose truth is within their bar, of those that do not stand on all examples, 1 where all do: as
the surface is in the end, and as it would be without an audit. Standard errors are those of means over orders, for the
points of one order share their examples. `wrong` counts orders of which more than a tenth of the points miss their bars
and the audit passes all the same. Errors are those of f in both: f(0, 0) is known. The first level of bars of the rise
is tried with four seeds, which the orders share in turn. FILE: an npz as of benchmarks/losses.py, for a case of real
losses.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import nan
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.sampling import (
    Audit,
    Estimated,
    Rounds,
    Verdict,
    first_that_holds,
    make_frame,
    pilot_points,
    prefixes,
    rise_sizes,
    run,
)

# by name, for the package has a function called estimate
audits, estimates, all_rounds = (
    import_module(f"landscape_mpi.sampling.{name}") for name in ("audit", "estimate", "rounds")
)
ERROR, FLOOR, AUDITED, SIDE = 0.05, 1e-3, 32, 9
CENTRE = SIDE * SIDE // 2
AXES = (np.linspace(-1, 1, SIDE),) * 2
EXAMPLES = 10_000
ROUNDING = 1e-11
"""Relative: what a weighted mean is off where the regression is exact."""
TRIED = 4
"""Seeds with which the first level of bars of the rise is tried."""
Floats = NDArray[np.float64]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Case:
    """`losses` float64 [points, examples], `labels` [examples] or None, and what is hostile about them."""

    words: str
    losses: Floats
    labels: NDArray[np.integer] | None = None


def basin(draw: np.random.Generator, examples: int = EXAMPLES, classes: int = 10) -> tuple[Floats, NDArray[np.int64]]:
    """Return losses [81, N] and labels: classes and examples have slopes of their own, a few are hard at theta*."""
    beta, alpha = np.meshgrid(AXES[1], AXES[0], indexing="ij")
    places = np.stack([alpha.ravel(), beta.ravel()])
    labels = draw.integers(classes, size=examples)
    slopes = draw.normal(size=(classes, 2))[labels] + 0.6 * draw.normal(size=(examples, 2))
    hard = np.log(np.expm1(0.05 * draw.exponential(size=examples) ** 3 + 1e-3))
    squares = np.square(places).sum(axis=0)[:, None]
    rough = 0.05 * np.sqrt(squares) * draw.exponential(size=(places.shape[1], examples))
    return np.log1p(np.exp(2 * (slopes @ places).T + hard)) + squares * (
        0.5 + draw.exponential(size=examples)
    ) + rough, labels


def carried(losses: Floats, draw: np.random.Generator, *, each: bool) -> Floats:
    """Let 0.1 % of the examples carry 90 % of the rise: the same everywhere, or others at each point."""
    made, count = losses.copy(), losses.shape[1] // 1000
    rises = losses.mean(axis=1) - losses[CENTRE].mean()
    same = draw.choice(losses.shape[1], count, replace=False)
    for point, rise in enumerate(rises):
        chosen = draw.choice(losses.shape[1], count, replace=False) if each else same
        made[point, chosen] += 9 * rise * losses.shape[1] / count * draw.uniform(0.5, 1.5, count)
    return made


def cases(losses: Path | None) -> Iterator[Case]:
    """Yield the cases."""
    draw = np.random.default_rng(0)
    plain, labels = basin(draw)
    yield Case("nothing", plain, labels)
    yield Case("0.1 % carry 90 % of the rise", carried(plain, draw, each=False), labels)
    yield Case("0.1 % carry it, others at each point", carried(plain, draw, each=True), labels)
    yield Case("1,000 classes", *basin(draw, classes=1000))
    noisy, wrong = plain.copy(), draw.random(EXAMPLES) < 0.3
    squares = np.add.outer(np.square(AXES[0]), np.square(AXES[1])).ravel()[:, None]
    noisy[:, wrong] = np.maximum(noisy[:, wrong] + (4 + draw.exponential(size=wrong.sum())) * (1 - 0.5 * squares), 0)
    mixed = np.where(wrong, draw.integers(10, size=EXAMPLES), labels)
    yield Case("30 % of the labels wrong", noisy, mixed)
    yield Case("each of 200 examples 100 times", np.repeat(plain[:, :200], 100, axis=1), np.repeat(labels[:200], 100))
    some = np.r_[np.repeat(np.arange(100), 150), np.arange(100, 5100)]
    yield Case("100 of 5,100 examples 150 times", plain[:, some], labels[some])
    heavy = plain[CENTRE] + squares * draw.pareto(1.5, size=EXAMPLES) * (1 + 0.3 * draw.normal(size=plain.shape))
    yield Case("a loss with a Pareto tail (1.5), no classes", heavy)
    wild = plain + squares * draw.lognormal(0, 2, size=plain.shape)
    yield Case("lognormal (2) anew at each point, no classes", wild)
    for examples in (30, 150, 300, 1000):
        yield Case(f"{examples:,} examples", plain[:, :examples], labels[:examples])
    if losses is not None:
        with np.load(losses) as stored:
            rows = np.arange(289).reshape(17, 17)[::2, ::2].ravel()
            yield Case(f"{losses.stem}, 1,000 examples", stored["losses"][rows].astype(np.float64), stored["labels"])


@dataclass(frozen=True)
class Outcome:
    """What an order gave: shares covered before and after the audit, shares used, whether too many miss unseen."""

    before: float
    covered: float
    used: float
    audited: float
    wrong: bool
    verdict: Verdict


def remembered(function: Callable[[Floats], Found]) -> Callable[[Floats], Found]:
    """Return a function of losses that computes nothing twice: an audit asks for the same sums again and again."""
    known: dict[int, Found] = {}

    def inner(values: Floats) -> Found:
        key = hash((values.dtype.char, values.tobytes()))
        if key not in known:
            known[key] = function(values)
        return known[key]

    return inner


class Trials:
    """A case on many orders; what does not depend on the order is computed once."""

    def __init__(self, case: Case) -> None:
        """Take a case."""
        self._case, self._origin = case, PerExample(case.losses[CENTRE])
        self._pilots = {point: PerExample(case.losses[point]) for point in pilot_points(AXES)}
        self._truths = case.losses.mean(axis=1)
        self._first = cache(self._tried)

    def _tried(self, seed: int) -> int:
        losses, levels = self._origin.losses, prefixes(ERROR, len(self._origin), "rise")
        floor, known = FLOOR * abs(exact_mean(losses)), [one.losses for one in self._pilots.values()]
        return first_that_holds(losses, self._case.labels, known, levels, ERROR, floor, seed)

    def estimated(self, of: str, seed: int) -> Rounds:
        """Run all rounds of an order."""
        case, origin = self._case, self._origin
        if of == "loss":
            rounds = Rounds(make_frame(origin.losses, case.labels, seed), origin, len(case.losses), ERROR)
        else:
            sizes = rise_sizes(origin.losses, [one.losses for one in self._pilots.values()])
            frame, first = make_frame(origin.losses, case.labels, seed, sizes=sizes), self._first(seed % TRIED)
            rounds = Rounds(frame, origin, len(case.losses), ERROR, (), FLOOR, self._pilots, first)
        run(rounds, lambda point, examples: PerExample(case.losses[point, examples]))
        return rounds

    def outcome(self, of: str, seed: int) -> Outcome:
        """Compare an order with the truth, and audit it."""
        rounds = self.estimated(of, seed)
        audit = Audit(rounds, AUDITED, seed)
        requests = audit.requests
        while requests:
            for request in requests:
                examples = rounds.ladder.frame.order[request.start : request.stop]
                audit.take(request, PerExample(self._case.losses[request.point, examples]))
            requests = audit.complete()
        before, after = self._holds(rounds.estimates(LOSS)["loss"]), self._holds(audit.estimates(LOSS)["loss"])
        missed = (1 - after.mean()) * len(after) / len(self._truths) if len(after) else 0.0
        shares = [float(holds.mean()) if len(holds) else 1.0 for holds in (before, after)]
        wrong = bool(missed > 0.1) and audit.verdict.passed
        return Outcome(shares[0], shares[1], rounds.used, rounds.used + audit.used, wrong, audit.verdict)

    def _holds(self, found: Estimated) -> NDArray[np.bool_]:
        """Return which bars hold of the points that do not stand on all examples."""
        below = found.examples < self._case.losses.shape[1]
        off = np.abs(found.means - self._truths)
        return (off <= found.bars + ROUNDING * np.abs(self._truths))[below]  # type: ignore[no-any-return]


def cells(case: Case, of: str, draws: int) -> tuple[str, ...]:
    """Return the columns of a case and a kind of bars."""
    trials = Trials(case)
    found = [trials.outcome(of, seed) for seed in range(draws)]
    before, covered = [one.before for one in found], [one.covered for one in found]
    return (
        case.words,
        of,
        f"{mean(before):.3f} ({min(before):.2f}-{max(before):.2f})",
        f"{mean(covered):.3f} ({min(covered):.2f}-{max(covered):.2f})",
        f"{stdev(covered) / draws**0.5 if draws > 1 else nan:.3f}",
        f"{mean(one.used for one in found):.1%}",
        f"{mean(one.audited for one in found):.1%}",
        f"{sum(not one.verdict.passed for one in found)} of {draws}",
        f"{sum(one.wrong for one in found)}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each case and print a table in Markdown, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--only", default="", help="cases whose words begin so")
    parser.add_argument("--losses", type=Path, help="npz with real losses")
    options = parser.parse_args(arguments)
    sys.stdout.write(
        "| hostile | bars of the | covered without an audit | covered | +- | used | with the audit | audits failed "
        "| wrong |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    with ExitStack() as held:
        held.enter_context(threadpool_limits(1, user_api="blas"))  # as in a sweep
        for function in (exact_mean, mean_and_error):
            for module in (audits, estimates, all_rounds):
                if hasattr(module, function.__name__):
                    held.enter_context(patch.object(module, function.__name__, remembered(function)))
        for case in cases(options.losses):
            for of in ("loss", "rise") if case.words.startswith(options.only) else ():
                sys.stdout.write(f"| {' | '.join(cells(case, of, options.draws))} |\n")
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
