"""Fills a surface from some examples per point: round by round, each piece on some rank, until every bar holds."""

import hashlib
import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landscape_mpi.data.split import Split
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import is_classes
from landscape_mpi.job import Grid, Sampling
from landscape_mpi.log import log, note, ranks
from landscape_mpi.metrics.examples import exact_mean
from landscape_mpi.mpi.failures import Deaths
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.sampling import (
    Rounds,
    all_examples_because,
    first_that_holds,
    in_order,
    make_frame,
    prefixes,
    rise_sizes,
)
from landscape_mpi.sampling.order import Frame
from landscape_mpi.surface import (
    THETA,
    Evaluated,
    Journal,
    Plan,
    PlanLog,
    Surface,
    WholeWriter,
    begin_plan,
    discard,
    read_journals,
    read_pilots,
    read_plan,
)
from landscape_mpi.surface.plan import Round
from landscape_mpi.surface.schema import CENTRE, SAMPLING_ERROR, SAMPLING_FLOOR, SAMPLING_OF
from landscape_mpi.sweeping.context import SweepContext, number_of, stopped
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.pieces import PieceComputer, share_pieces
from landscape_mpi.sweeping.pilots import evaluate_pilots
from landscape_mpi.sweeping.sampled_state import Coordinator, SampledState, SplitState


def can_save(experiment: Experiment) -> bool:
    """Whether the job samples examples and some split is large enough for that."""
    sampling = experiment.job.values.sampling
    sizes = [len(split) for split in experiment.splits.values()]
    return sampling is not None and not all(all_examples_because(sampling.error, n, sampling.of) for n in sizes)


def recorded(context: SweepContext) -> dict[str, str | float]:
    """Return what a new surface records of bars of the rise: the keys of the job, and f(0, 0) of each split."""
    sampling = context.job.sampling
    if sampling is None or sampling.narrowest is None:
        return {}
    centres = {f"{name}{CENTRE}": exact_mean(found.losses) for name, found in context.engine.examples.items()}
    keys = {SAMPLING_OF: sampling.of, SAMPLING_FLOOR: sampling.narrowest, SAMPLING_ERROR: sampling.error}
    return {**keys, **centres}


def check_journals(context: SweepContext) -> None:
    """Refuse, before anything is written, journals of another sweep beside the surface; collective.

    Raises:
        UserError: on every rank.
    """
    if can_save(context.experiment):
        on_root(context.world, _is_begun, context)


def discard_journals(context: SweepContext) -> None:
    """Remove the journals of an earlier sweep; a shard removes its own alone, because others may use theirs."""
    shard = context.identity.shard
    try:
        ours = can_save(context.experiment) and _is_begun(context)
    except UserError:
        ours = False
    if shard is None or can_save(context.experiment):
        discard(context.journals, shard if ours else None)


def _is_begun(context: SweepContext) -> bool:
    """Return whether a plan of this sweep is there, or pilots that precede one.

    Raises:
        UserError: what is there belongs to another sweep.
    """
    folder, identity = context.journals, journal_identity(context)
    return read_plan(folder, identity) is not None or any(True for _ in read_pilots(folder, identity))


def exit_of(world: World, surface: Surface) -> Exit:
    """Return how a complete surface has ended, and say so where its audit failed."""
    if surface.audit is None or surface.audit.passed:
        return Exit.COMPLETE
    log(world, f"{surface.path}: audit: {surface.audit.words}.")
    return Exit.FAILED_POINTS


def fill(context: SweepContext) -> Exit:
    """Evaluate until every error bar holds, then audit; collective."""
    world = context.world
    with ExitStack() as held:
        # a plan must not depend on how many threads multiply matrices
        held.enter_context(threadpool_limits(1, user_api="blas"))
        deaths = Deaths(context.path)
        pilots = evaluate_pilots(context, deaths, journal_identity(context))
        if pilots is None:
            return stopped(context)
        coordinator = on_ranks(world, world.rank == 0, _open_coordinator, context, held, pilots)
        identity, orders = world.bcast((coordinator.identity, coordinator.orders) if coordinator else (b"", {}))
        journal = together(world, Journal, context.journals, world.rank, identity, context.identity.shard)
        held.enter_context(journal)
        compute = PieceComputer(context, orders)
        deaths.log(world, context.points)

        def end() -> Exit:
            return coordinator.end(complete) if coordinator else Exit.COMPLETE

        complete = share_pieces(context, compute, journal, coordinator, deaths)
        code = on_root(world, end)
        together(world, held.close)
        if code == Exit.RUN_AGAIN:
            code = stopped(context)
        if complete and coordinator:
            deaths.end(compute.index(point) for point in coordinator.given_up)
        return code


def journal_identity(context: SweepContext) -> bytes:
    """Return the 32 bytes by which the journals of this sweep are known."""
    return context.identity.digest(context.job, context.engine.name, context.batch)


def _firsts(
    context: SweepContext, sampling: Sampling, origins: Sequence[Evaluated], pilots: Sequence[Evaluated]
) -> list[int | None]:
    """Return the first level of each split by which bars hold at the pilots; None where nothing is to be tried."""
    firsts: list[int | None] = []
    for origin, (name, split) in zip(origins, context.experiment.splits.items(), strict=True):
        losses = origin.found.losses
        levels = prefixes(sampling.error, len(losses), sampling.of)
        mine = [one.found.losses for one in pilots if one.split == origin.split]
        if len(levels) == 1 or not mine or sampling.narrowest is None:
            firsts.append(None)
            continue
        floor = sampling.narrowest * abs(exact_mean(losses))
        given = losses, _classes(split), mine, levels, sampling.error, floor, sampling.seed
        firsts.append(first_that_holds(*given, pause=context.experiment.stop.check))
        if firsts[-1] != levels[0]:
            text = f"few examples carry the rise: bars hold from {firsts[-1]} per point on, not from {levels[0]}"
            note(context.world, f"{name}: {text}.")
    return firsts


def _classes(split: Split) -> NDArray[np.int64] | None:
    return split.targets.numpy().astype(np.int64) if is_classes(split.targets) else None


def _open_coordinator(context: SweepContext, held: ExitStack, pilots: Sequence[Evaluated]) -> Coordinator:
    """Return rank 0's coordinator, with all that an earlier run left; its files are closed with `held`."""
    folder, identity, shard = context.journals, journal_identity(context), context.identity.shard
    sampling = context.job.sampling
    if sampling is None:
        raise RuntimeError("no sampling in the job; expected to be called for sampled sweeps alone.")
    given = enumerate(context.engine.examples.values())  # at theta*, in the order of the data
    origins = [Evaluated(THETA, number, 0, found) for number, found in given]
    plan = read_plan(folder, identity)
    if plan is None:
        if context.found is not None and context.found.done:  # this run may have made the folder anew, for theta*
            log(context.world, f"{folder} is missing, and with it what each example gave: it is evaluated again.")
        firsts, own = _firsts(context, sampling, origins, pilots), own_point(context.job.chosen_grid)
        plan = begin_plan(folder, identity, origins, pilots, firsts, own)
    _check_plan(context, plan, sampling)
    if plan.repeated:
        note(context.world, f"{folder}: {plan.repeated} rounds of its plan stand there twice and count once.")
    points, splits = math.prod(context.job.chosen_grid.shape), []
    for number, (name, split) in enumerate(context.experiment.splits.items()):
        origin = plan.origins[number]
        known = {one.point: one.found for one in plan.pilots if one.split == number}
        sizes = rise_sizes(origin.found.losses, [one.losses for one in known.values()]) if known else None
        frame = frame_of(origin.found.losses, _classes(split), sampling, number, sizes)
        rounds = Rounds(
            frame,
            origin.found,
            points,
            sampling.error,
            plan.rounds[number],
            sampling.narrowest,
            known,
            plan.firsts[number] if plan.firsts else None,
            plan.own,
        )
        splits.append(SplitState(name, rounds, sampling, context.experiment.task.metrics))
    slices = hashlib.sha256(identity + b"".join(origin.found.losses.tobytes() for origin in plan.origins)).digest()
    stored = list(read_journals(folder, slices, shard))
    order = [number_of(context, index) for index in context.points]
    state = SampledState(splits, context.batch, order, stored)
    plan_log = None if shard else held.enter_context(PlanLog(folder, identity))
    writer = WholeWriter(context.path)
    held.callback(writer.close)
    before = f"{len(stored)} slices of examples are there; " if stored else ""
    bars = f"{points} points to bars of {sampling.error:.3g}{sampling.measure}"
    log(context.world, f"{context.path}: {before}{bars}, on {ranks(context.world.size, context.options.group)}.")
    return Coordinator(context, state, writer, plan_log, slices)


def own_point(grid: Grid) -> int | None:
    """Return the number of the grid's point at which theta* lies, row by row; None where it is between others.

    >>> from landscape_mpi.job import Axis
    >>> own_point(Grid(alpha=Axis(-1, 1, 5), beta=Axis(0, 1, 3)))
    2
    """
    zeros = [np.flatnonzero(at == 0.0) for at in reversed(grid.coordinates())]
    return int(np.ravel_multi_index([at[0] for at in zeros], grid.shape)) if all(map(len, zeros)) else None


def frame_of(
    losses: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
    sampling: Sampling,
    split: int,
    sizes: NDArray[np.float64] | None = None,
) -> Frame:
    """Return a split's examples in the order of their evaluation, which is that of the data if all are evaluated."""
    if all_examples_because(sampling.error, len(losses), sampling.of):
        return in_order(len(losses))
    return make_frame(losses, labels, sampling.seed, stream=split, sizes=sizes)


def _check_plan(context: SweepContext, plan: Plan, sampling: Sampling) -> None:
    """Refuse a plan that is not of these examples, points and levels: its checksums do not tell which sweep wrote it.

    Raises:
        UserError: on rank 0.
    """
    points, ours = math.prod(context.job.chosen_grid.shape), list(context.engine.examples.values())
    sizes = [len(split) for split in context.experiment.splits.values()]
    sound = [len(one.found) for one in plan.origins] == sizes
    sound = sound and all(a.found.others.keys() == b.others.keys() for a, b in zip(plan.origins, ours, strict=True))
    for number, (size, rounds) in enumerate(zip(sizes, plan.rounds, strict=False)):
        levels, first = prefixes(sampling.error, size, sampling.of), plan.firsts[number] if plan.firsts else None
        sound = sound and (first is None or first in levels)
        sound = sound and climbs(rounds, points, len(levels) - (levels.index(first) if first in levels else 0))
    sound = sound and plan.own in (None, own_point(context.job.chosen_grid))
    for one in plan.pilots:
        sound = sound and one.point < points and one.split < len(ours) and len(one.found) == sizes[one.split]
        sound = sound and one.found.others.keys() == ours[one.split].others.keys()
    if not sound:
        raise UserError(
            context.journals,
            f"its plan is not one of this sweep's {points} points and {sizes} examples",
            remedy="it is damaged: move the folder away, and the sweep evaluates its examples again",
        )


def climbs(rounds: Sequence[Round], points: int, levels: int) -> bool:
    """Whether every round promotes some points, each once and to a higher level."""
    reached = dict.fromkeys(range(points), 0)
    for promotions in rounds:
        if not promotions or len({point for point, _ in promotions}) < len(promotions):
            return False
        if not all(point < points and reached[point] < level < levels for point, level in promotions):
            return False
        reached.update(promotions)
    return True
