"""Decides how many examples each level has, and which points go up to which level.

A log of rounds is plain data, `[[[point, level], ...], ...]`: it can be replayed without any floating point.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.metrics.base import QUANTILE
from landscape_mpi.sampling.estimate import PER_REGRESSOR, Estimates, Ladder, Standing
from landscape_mpi.sampling.order import Floats, Ints

FIRST = {0.01: 1000.0, 0.02: 800.0, 0.05: 400.0}
"""Examples of the first level by target: relative 95 % error bar -> n_0."""
FEWEST_LEVELS = 3
"""Bars of the rise need so many times n_0 examples: on 100 examples and 54 of the first level they covered .92."""
FULLEST = 0.75
"""Once this share of a full sweep is used, the rest is evaluated too: the possible saving is not worth more rounds."""
AIM = 0.75
"""A promoted point aims at this share of the target, so that it need not be promoted again at once."""
Of = Literal["loss", "rise"]
"""What bars are relative to: the mean loss f, or f - f(0, 0)."""
Promotion = tuple[int, int]
"""A point and the level that it goes up to."""
AT_ONCE = 8
"""Points that a round promotes because of their bars: few, because each tightens the bars of the others."""
ALIKE = 0.7
"""A point waits for the results of a point already taken if their residuals correlate as much as this."""


def first_level(error: float, examples: int = 1 << 62, of: Of = "loss") -> int:
    """Return n_0, the examples of the first level: 400, 800, 1000 for 5, 2, 1 %.

    Between these targets it is interpolated over the logarithm of the target; beyond them the nearest one counts. For
    bars of the rise it is at most an eighth of all examples: examples such as windows of a text are few and expensive.
    But this limit is no less than twice the number with which the floor of the bars meets a promotion's aim.
    """
    targets = np.log(list(FIRST))
    first = round(float(np.interp(np.log(error), targets, list(FIRST.values()))))
    return first if of == "loss" else min(first, max(examples // 8, math.ceil(2 / (AIM * error))))


def prefixes(error: float, examples: int, of: Of = "loss") -> tuple[int, ...]:
    """Return the number of examples of each level: n_0 2^l as long as that is below N, then N.

    Args:
        error: target, the relative 95 % error bar; 0 asks for all examples.
        examples: N.
        of: what the bars are relative to.

    Raises:
        ValueError: the target is negative or no number, or there are no examples.
    """
    if not error >= 0 or examples < 1:
        raise ValueError(
            f"found error {error} and {examples} examples; expected error >= 0 and an example; correct the job."
        )
    if all_examples_because(error, examples, of):
        return (examples,)
    first = first_level(error, examples, of)
    return (*takewhile(lambda n: n < examples, (first << level for level in range(64))), examples)


def all_examples_because(error: float, examples: int, of: Of = "loss") -> str:
    """Return why nothing can be saved, as a clause, or an empty string where something can.

    No bar is narrower than L / n_0 before all examples are used (see `metrics.base.relative_floor`). If even such a bar
    misses the aim of a promotion, only all examples can meet the target.
    """
    if error == 0:
        return "error: 0 asks for them"
    first = first_level(error, examples, of)
    if examples <= (first if of == "loss" else FEWEST_LEVELS * first - 1):
        return f"there are {examples} and the first level alone takes {first}"
    if AIM * error * first <= 1:
        return f"bars of {error:.3g} save nothing: only all examples can meet less than {1 / (AIM * first):.2g}"
    return ""


def stand(points: int, log: Iterable[Iterable[Sequence[int]]]) -> Standing:
    """Return the levels of the points after all rounds of a log; all start on level 0."""
    levels = np.zeros(points, np.int64)
    turns = np.full(points, np.iinfo(np.int64).max)
    for turn, (point, level) in enumerate(promotion for one_round in log for promotion in one_round):
        levels[point] = level
        turns[point] = min(int(turns[point]), turn)
    return Standing(levels, turns)


def relative_bars(means: Floats, bars: Floats, least: float = 0.0) -> Floats:
    """Return bar / |mean| [G]; infinite for a mean that is 0 or no number, because the bar is no share of it.

    `least`: what smaller means count as.
    """
    sizes = np.maximum(np.abs(means), least)
    usable = np.isfinite(means) & np.isfinite(bars) & (sizes != 0)
    relative: Floats = np.divide(bars, sizes, out=np.full(len(means), np.inf), where=usable)
    return relative


def promotions(
    ladder: Ladder, standing: Standing, estimates: Estimates, bars: Floats, error: float, least: float = 0.0
) -> tuple[Promotion, ...]:
    """Return the points of the next round with their new levels; none once all bars hold.

    Points without a relative bar (a value that is not finite, or a mean of 0) go to the top, all of them. Of those
    whose relative bar exceeds the target the 8 worst are taken, except those that resemble one taken already. A point
    on level 0 goes to the smallest level whose predicted bar is below 3/4 of the target. Other points go one level up.

    Level 0 can bear n_0 / 5 regressors. Once so many points stand above it, more of them would help no others, and all
    points whose relative bar exceeds the target go up at once.

    Args:
        ladder: the examples and the levels.
        standing: where the G points stand.
        estimates: of all points, on these levels.
        bars: 95 % error bars [G] of the same estimates.
        error: target, the largest relative bar allowed.
        least: what smaller means count as.
    """
    relative = relative_bars(estimates.means, bars, least)
    open_points = np.flatnonzero(still_open(ladder, standing, relative, error))
    hopeless = np.isinf(relative[open_points])
    top = [(int(point), ladder.top) for point in open_points[hopeless]]
    others = open_points[~hopeless]
    worst_first = others[np.argsort(-relative[others], kind="stable")]
    chosen = unlike(worst_first, estimates.noise) if _help_others(ladder, standing) else worst_first.tolist()
    return (*top, *((point, _next_level(ladder, standing, estimates, point, error, least)) for point in chosen))


def _help_others(ladder: Ladder, standing: Standing) -> bool:
    """Whether points that go up can still become regressors of level 0."""
    return int((standing.levels > 0).sum()) < ladder.prefixes[0] // PER_REGRESSOR


def still_open(ladder: Ladder, standing: Standing, relative: Floats, error: float) -> NDArray[np.bool_]:
    """Return which points [G] have an estimate on less than all examples, with a relative bar beyond the target."""
    return (standing.levels >= 0) & (standing.levels < ladder.top) & (relative > error)


def outlook(
    ladder: Ladder, standing: Standing, estimates: Estimates, bars: Floats, error: float, least: float = 0.0
) -> int:
    """Return about how many examples the rounds to come take at most: as if every open point had to go up by itself.

    Each point that goes up tightens the bars of others, so that fewer go up. On real losses the rounds take a half to a
    third of these examples at first, and about as many as these in the last rounds.
    """
    relative = relative_bars(estimates.means, bars, least)
    needed = 0
    for point in np.flatnonzero(still_open(ladder, standing, relative, error)).tolist():
        hopeless = np.isinf(relative[point])
        level = ladder.top if hopeless else _next_level(ladder, standing, estimates, point, error, least)
        needed += ladder.prefixes[level] - ladder.prefixes[standing.levels[point]]
    return needed


def unlike(candidates: Ints, noise: Floats) -> list[int]:
    """Return up to 8 of the candidates in their order, none of them like an earlier one.

    Points are alike where their noise [n_0, G], the examples' shares in their errors, has |correlation| >= .7.
    """
    lengths = np.linalg.norm(noise[:, candidates], axis=0)
    taken: list[int] = []
    for point, length in zip(candidates.tolist(), lengths.tolist(), strict=True):
        own = noise[:, point] / length if length else noise[:, point]
        others = noise[:, taken]
        products = np.abs(own @ others)
        if (products < ALIKE * np.linalg.norm(others, axis=0)).all() or not length:
            taken.append(point)
        if len(taken) == AT_ONCE:
            break
    return taken


def _next_level(
    ladder: Ladder, standing: Standing, estimates: Estimates, point: int, error: float, least: float
) -> int:
    if standing.levels[point] > 0:
        return int(standing.levels[point]) + 1
    aim = AIM * error * max(abs(float(estimates.means[point])), least)
    variances = predicted_variances(ladder, float(estimates.variances[point]), estimates.noise[:, point])
    return 1 + next(
        level for level, variance in enumerate(variances) if QUANTILE * variance**0.5 < aim or variance == 0
    )


def predicted_variances(ladder: Ladder, variance: float, noise: Floats) -> list[float]:
    """Return the variance that a point of level 0 would have on levels 1 to the top, with the present regressors.

    A residual e_i seen with probability pi_i stands for e_i^2 / pi_i of the population's squares. It adds 1 / pi_i' - 1
    of each to the variance on another prefix (the Horvitz-Thompson estimate of a Poisson sample's variance, SSW 3.5.2).
    So its share, noise_i^2, shrinks by (1 / pi' - 1) / (1 / pi - 1). The variance that comes with the regressors is
    assumed to shrink alike. On real losses (benchmarks/staircase.py, 2 %) this took 7.8 % of a full sweep, and plain
    1 / n - 1 / N took 8.6 %.

    Args:
        ladder: the examples and the levels.
        variance: the point's variance on level 0.
        noise: its noise [n_0] there.
    """
    shares = np.square(noise)
    now = 1.0 / ladder.pi[0] - 1.0
    uncertain = (now > 0) & (shares > 0)
    if not uncertain.any():
        return [variance] * (ladder.top - 1) + [0.0]
    later = (1.0 / pi[: len(noise)][uncertain] - 1.0 for pi in ladder.pi[1:])
    shrunk = (float(shares[uncertain] @ (odds / now[uncertain])) for odds in later)
    return [variance * part / float(shares.sum()) for part in shrunk]
