"""Finds how far the axes of a grid that are `auto` go: until the loss is 1 nat above theta*'s, or has doubled."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from glob import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import EagerEvaluator, Point
from landscape_mpi.job import AXES, Grid, SweepJob
from landscape_mpi.log import log, note
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.mpi.world import World, on_root, together
from landscape_mpi.plane import Plane
from landscape_mpi.sampling.order import example_order, uniforms
from landscape_mpi.surface import THETA, discard_early
from landscape_mpi.surface.identity import Identity, check_same, first_difference, job_of, with_its_grid
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.shards import SLUG, recorded_shard
from landscape_mpi.sweeping.check_network import Comparison, evaluator_of, in_place, needs_afresh
from landscape_mpi.sweeping.choose_engine import choose_batch
from landscape_mpi.sweeping.kept import Kept
from landscape_mpi.sweeping.load import Experiment

MOST = 2000
"""Examples on which the loss is looked at, those that a seed puts first; all of them at the ends that are found."""
LARGE, MOST_OF_LARGE = 1 << 25, 32
"""Numbers in theta* from which on only so many examples are looked at: each of them takes a second of a core.

The range has to fit a figure. Along an axis the loss grows about as the square of the distance. So if 32 examples are
off by 10 % in the rise, the end of the axis is off by 5 %, which is half of what two digits leave open. Bars are those
of the sweep's own examples.
"""
FEWEST = ((8, 32), (64, 1))
"""How many of these may decide whether the loss has risen, and the first step: for a rough search, then for the end."""
GROWTH, SURELY = 8, 4.0
"""How many times as many are taken if these do not decide: the mean is within so many standard errors of the rise."""
LOWEST, HIGHEST = -540, 270
"""The places of 0.000001 and 1000 among the numbers of two digits, counted from 1 on."""
NATS = ("cross_entropy", "next_token")
"""Losses in nats, which have to rise by 1; other losses, whose unit is not known, have to double."""
PREFIX = "range_"
"""The attributes of a surface that say what was found begin with this."""
ANY = 1.0
"""The end of an axis along which the loss rises nowhere."""


def choose_grid(
    world: World,
    experiment: Experiment,
    plane: Plane,
    identity: Identity,
    known: Path | None,
    *,
    search: bool,
    journals: Path | None,
) -> tuple[Experiment, Mapping[str, float]]:
    """Return the experiment with a grid whose ranges are all known, and what is to be recorded of them; collective.

    Args:
        world: The ranks.
        experiment: Network, data and job, of whose grid axes may be `auto`.
        plane: The plane.
        identity: Of its surface.
        known: The file of the surface. If it or another shard beside it is there, that file says how far axes go.
        search: Whether ranges are looked for; else they go from -1 to 1 where no file says how far.
        journals: The folder in which what is evaluated for that is kept; None where nothing is looked for.

    Raises:
        UserError: the file is of another experiment, or the loss at theta* is not finite or cannot double.
        ValueError: ranges are to be looked for, and there is no folder.
    """
    job = experiment.job
    grid = job.values.planned_grid
    if grid is None or not grid.is_open:
        return experiment, {}
    stored = on_root(world, _stored, job.values, identity, known) if known else None
    if stored is not None:
        path, grid, facts = stored
        axes = zip(AXES, grid.axes, strict=False)
        words = ", ".join(f"{name} {axis.first:g} to {axis.last:g}" for name, axis in axes)
        log(world, f"grid: {words}, as in {path}.")
        return replace(experiment, job=job.with_grid(grid)), facts
    if not search:
        return replace(experiment, job=job.with_grid(grid.reaching(*(ANY for _ in AXES)))), {}
    if journals is None:
        raise ValueError("found a range that is auto and no folder; expected one for what the search evaluates.")
    alone = replace(experiment, task=replace(experiment.task, metrics=(LOSS,)))  # other metrics may cost far more
    ends, facts = _search(world, alone, plane, grid, identity, journals, fresh=known is None)
    return replace(experiment, job=job.with_grid(grid.reaching(*ends))), facts


def _stored(job: SweepJob, identity: Identity, known: Path) -> tuple[Path, Grid, dict[str, float]] | None:
    """Return the grid of a surface or of another shard of it, with what was recorded of it, and the file's path."""
    if known.exists():
        surface = read_surface(known)
        check_same(surface, job, replace(identity, shard=recorded_shard(surface.attributes.get("shard"))))
        return known, *_grid_of(surface)
    for path in _beside(known):
        with suppress(UserError):
            surface = read_surface(path)
            if not first_difference(surface, with_its_grid(job, surface), identity.recorded):
                return path, *_grid_of(surface)
    return None


def _beside(known: Path) -> Iterator[Path]:
    """Yield where other files of a surface may be: the whole surface, if this one is a shard, and its shards."""
    whole = SLUG.sub("", known.name)
    yield known.with_name(whole)
    stem, dot, ending = whole.rpartition(".")
    yield from sorted(known.parent.glob(f"{escape(stem or ending)}.shard-*-of-*{escape(dot + ending) if stem else ''}"))


def _grid_of(surface: Surface) -> tuple[Grid, dict[str, float]]:
    attributes = surface.attributes.items()
    facts = {name: value for name, value in attributes if name.startswith(PREFIX) and isinstance(value, float)}
    return job_of(surface).values.chosen_grid, facts


@dataclass(frozen=True)
class Rise:
    """How much higher the loss is at points of a plane than at theta*; all ranks call each method and get the same.

    Attributes:
        evaluator: Of the plane, on this rank.
        split: Whose examples are evaluated.
        order: Their numbers, int64 [n], in the order in which they are taken.
        kept: What was evaluated so far, also by earlier runs.
        known: The losses that are known so far, by point, in that order.
    """

    evaluator: EagerEvaluator
    split: str
    order: NDArray[np.int64]
    kept: Kept
    known: dict[Point, NDArray[np.float64]] = field(default_factory=dict)

    def losses(self, point: Point, count: int) -> NDArray[np.float64]:
        """Return the losses of the first examples at a point, float64 [count].

        Ranks share whole batches, so that no bit depends on how many there are.
        """
        count = min(count, len(self.order))
        there = self.known.get(point, np.empty(0))
        if len(there) < count:

            def evaluate(places: slice) -> PerExample:
                return self.evaluator.per_example(point, self.split, self.order[places])

            missing = slice(len(there), count)
            found = self.kept.fill(code(point), 0, missing, self.evaluator.batch, evaluate)
            there = self.known[point] = np.concatenate([there, found.losses])
        return there[:count]

    def mean(self, point: Point) -> float:
        """Return the mean loss of all the examples at a point."""
        return exact_mean(self.losses(point, len(self.order)))

    def reaches(self, point: Point, rise: float, count: int) -> bool:
        """Whether the loss has risen that far at a point, by `count` examples or as many more as it takes to tell.

        A loss that is not finite counts as risen.
        """
        centre = self.evaluator.centre
        while True:
            rises = self.losses(point, count) - self.losses(centre, count)
            if not np.isfinite(rises).all():
                return True
            mean, error = mean_and_error(rises)
            if count >= len(self.order) or abs(mean - rise) > SURELY * error:
                return mean >= rise
            count *= GROWTH


def _search(
    world: World,
    experiment: Experiment,
    plane: Plane,
    grid: Grid,
    identity: Identity,
    journals: Path,
    *,
    fresh: bool,
) -> tuple[tuple[float, ...], dict[str, float]]:
    """Return the ends of the axes, ANY where the range is known, and what is to be recorded; collective."""
    job = experiment.job.values
    split = job.data.splits[0]
    size = len(experiment.splits[split])
    numbers = sum(tensor.numel() for tensor in experiment.theta.parameters.values())
    order = example_order(np.ones(size), uniforms(0, size))[: MOST_OF_LARGE if numbers >= LARGE else MOST]
    asked = [axis for axis, ends in enumerate(grid.ranges) if ends == "auto"]
    names = " and ".join(AXES[axis] for axis in asked)
    log(world, f"grid: looking for the range of {names}, by the {split} loss of {len(order):,} examples ...")
    batch = choose_batch(world, experiment)
    if experiment.theta.is_large:
        evaluator = together(world, in_place, experiment, plane, experiment.task, batch)
    else:
        beside = (tuple(0.25 for _ in plane.centre),)
        comparison = together(world, Comparison.of, experiment, plane, batch, beside)
        afresh = needs_afresh(world, experiment, plane, batch, comparison) is not None
        evaluator = together(world, evaluator_of, experiment, plane, batch, afresh=afresh)
    team, digest = experiment.team.size if experiment.team else 1, identity.digest(job, "range", batch)
    with Kept(world, journals, digest, "range", shard=identity.shard, team=team, fresh=fresh) as kept:
        if kept.examples:
            log(world, f"grid: {kept.examples:,} evaluations of examples are there already.")
        try:
            return _found(world, Rise(evaluator, split, order, kept), job, size, grid)
        except UserError:
            on_root(world, discard_early, journals, "range", identity.shard)
            raise


def _found(
    world: World, found: Rise, job: SweepJob, size: int, grid: Grid
) -> tuple[tuple[float, ...], dict[str, float]]:
    """Return what `_search` does, and say it; `size`: examples of the split."""
    asked = [axis for axis, ends in enumerate(grid.ranges) if ends == "auto"]
    split, order, start = found.split, found.order, 0
    centre = found.mean(found.evaluator.centre)
    rise = 1.0 if job.loss in NATS else centre
    if not (np.isfinite(centre) and rise > 0):
        raise UserError(
            f"grid.{AXES[asked[0]]}",
            f"found auto, and the mean {split} loss at theta* is {centre:g}",
            expected="a finite one" if job.loss in NATS else "a finite one above 0, which can double",
            remedy="write [first, last, number of points]",
        )
    facts = {f"{PREFIX}centre": centre, f"{PREFIX}rise": rise, f"{PREFIX}examples": float(len(order))}
    ends = [ANY] * len(grid.ranges)
    for axis in asked:
        place = _end(found, axis, rise, start)
        start = place or 0  # another direction of the same length may end nearby
        ends[axis] = number(place or 0) if place is not None else ANY
        low, high = map(found.mean, _points(found, axis, ends[axis]))
        facts |= {f"{PREFIX}{AXES[axis]}_{side}": loss for side, loss in (("low", low), ("high", high))}
        text = f"grid: {AXES[axis]} {-ends[axis]:g} to {ends[axis]:g}: the {split} loss "
        text += _words(place, centre, (low, high), rise, nats=job.loss in NATS)
        tell = note if place in (None, LOWEST) else log
        tell(world, f"{text} (mean of {len(order):,} of {size:,} examples).")
    return tuple(ends), facts


def _end(found: Rise, axis: int, rise: float, start: int) -> int | None:
    """Return the place of the smallest number at which the loss has risen on one side; None where there is none.

    The search begins at `start`.
    """

    def reached(place: int, count: int) -> bool:
        points = _points(found, axis, number(place))
        return any(found.reaches(point, rise, count) for point in points)

    place: int | None = start
    every = len(found.order)
    for fewest, step in FEWEST:
        place = smallest(partial(reached, count=min(fewest, every)), place or 0, step)
    if place is not None:
        highest = max(map(found.mean, _points(found, axis, number(place)))) - found.mean(found.evaluator.centre)
        if rise <= highest < 2 * rise:
            return place
    return smallest(lambda place: reached(place, every), place or 0)  # few examples hold most of the loss


def _points(found: Rise, axis: int, end: float) -> tuple[Point, Point]:
    """Return the points on both sides of theta* along an axis."""
    low, high = (
        tuple(side * end if one == axis else 0.0 for one in range(len(found.evaluator.centre))) for side in (-1, 1)
    )
    return low, high


def number(place: int) -> float:
    """Return a number of two digits by its place; 0 stands for 1.

    >>> number(0), number(-1), number(-90), number(17)
    (1.0, 0.99, 0.1, 2.7)
    """
    power, digits = divmod(place, 90)
    return float(f"{digits + 10}e{power - 1}")


def code(point: Point) -> int:
    """Return the number by which journals know a point on an axis; that of theta* for theta* itself.

    >>> code((0.0, 0.0)) == THETA, code((0.12, 0.0)) == code((0.0, 0.12)), code((1e-6, 0.0)), code((0.0, -1e-6))
    (True, False, 1, 2)
    """
    axis = next((axis for axis, value in enumerate(point) if value), None)
    if axis is None:
        return THETA
    digits, power = f"{abs(point[axis]):.1e}".split("e")
    place = 90 * int(power) + round(10 * float(digits)) - 10
    return 2 * (len(point) * (place - LOWEST) + axis) + (point[axis] > 0)


def smallest(risen: Callable[[int], bool], start: int, step: int = 1) -> int | None:
    """Return a place near `start` at which something has risen, where it has not at the place before.

    Steps of `step`, doubled each time, lead from `start` past such a place, and bisection then finds it. The result is
    LOWEST where it has risen all the way down, and None where it has risen nowhere up to HIGHEST.
    """
    last, step = (LOWEST, -step) if risen(start) else (HIGHEST, step)
    here = there = start
    while risen(there) == (step < 0):
        if there == last:
            return LOWEST if step < 0 else None
        here, there = there, min(max(there + step, LOWEST), HIGHEST)
        step *= 2
    low, high = sorted((here, there))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if risen(middle) else (middle, high)
    return high


def _words(place: int | None, centre: float, ends: tuple[float, float], rise: float, *, nats: bool) -> str:
    """Return in words how the loss changes between theta* and the ends of an axis."""
    numbers = f"{centre:.4g} at theta*, {ends[0]:.4g} and {ends[1]:.4g} at the ends"
    if place is None:
        rises = "rises by less than 1 nat" if nats else "does not double"
        return f"{rises} up to {number(HIGHEST):g}, so this range says nothing: {numbers}"
    far = "has risen by 1 nat" if nats else "has doubled"
    if place == LOWEST:
        return f"{far} as near as that: {numbers}"
    alone = "" if all(not loss - centre < rise / 2 for loss in ends) else " on one side alone"
    return f"{far} there{alone}: {numbers}"
