"""Fills a surface from some examples a point: round by round, each piece on some rank, until every error bar holds."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import is_classes
from landscape_mpi.job import Sampling
from landscape_mpi.log import log, note, ranks
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.failures import Deaths
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.sampling import Rounds, all_examples_because, in_order, make_frame, prefixes
from landscape_mpi.sampling.order import Frame, Ints
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
    read_plan,
)
from landscape_mpi.surface.journal import Round
from landscape_mpi.sweeping.context import Index, SweepContext, stopped
from landscape_mpi.sweeping.full import PointRunner
from landscape_mpi.sweeping.sampled_state import Coordinator, Piece, PieceResult, SampledState, SplitState


def can_save(context: SweepContext) -> bool:
    """Whether the job samples examples and some split is large enough for that."""
    sampling = context.job.sampling
    sizes = [len(split) for split in context.experiment.splits.values()]
    return sampling is not None and not all(all_examples_because(sampling.error, size) for size in sizes)


def check_journals(context: SweepContext) -> None:
    """Refuse, before anything is written, journals of another sweep beside the surface; collective.

    Raises:
        UserError: on every rank.
    """
    if can_save(context):
        on_root(context.world, read_plan, context.journals, journal_identity(context))


def discard_journals(context: SweepContext) -> None:
    """Remove the journals of an earlier sweep; a shard removes its own alone, because others may use theirs."""
    shard = context.identity.shard
    try:
        ours = can_save(context) and read_plan(context.journals, journal_identity(context)) is not None
    except UserError:
        ours = False
    if shard is None or can_save(context):
        discard(context.journals, shard if ours else None)


def exit_of(world: World, surface: Surface) -> Exit:
    """Return how a complete surface has ended, and say so where its audit failed."""
    if surface.audit is None or surface.audit.passed:
        return Exit.COMPLETE
    log(world, f"{surface.path}: audit: {surface.audit.words}.")
    return Exit.FAILED_POINTS


@dataclass(frozen=True)
class PieceComputer:
    """Evaluates pieces; `orders` has the examples of each split in the order in which they are evaluated."""

    runner: PointRunner
    shape: tuple[int, ...]
    orders: Mapping[str, Ints]

    def __call__(self, piece: Piece) -> PieceResult:
        """Evaluate a piece.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        name, order = list(self.orders.items())[piece.split]
        examples, per_example = order[piece.start : piece.stop], self.runner.evaluator.per_example
        found = self.runner.run(self.index(piece.point), lambda point: per_example(point, name, examples))
        evaluated = Evaluated(piece.point, piece.split, piece.start, found)
        return PieceResult(evaluated, self.runner.world.rank, time.perf_counter() - started, self.runner.note)

    def index(self, point: int) -> Index:
        """Return the grid index (iy, ix) or (ix,) of a point's number."""
        return tuple(int(i) for i in np.unravel_index(point, self.shape))


def fill(context: SweepContext) -> Exit:
    """Evaluate until every error bar holds, then audit; collective."""
    world, job = context.world, context.job
    with ExitStack() as held:
        # a plan must not depend on how many threads multiply matrices
        held.enter_context(threadpool_limits(1, user_api="blas"))
        coordinator = on_ranks(world, world.rank == 0, _open_coordinator, context, held)
        identity, orders = world.bcast((coordinator.identity, coordinator.orders) if coordinator else (b"", {}))
        journal = together(world, Journal, context.journals, world.rank, identity, context.identity.shard)
        held.enter_context(journal)
        compute = PieceComputer(PointRunner(context), job.chosen_grid.shape, orders)
        deaths = Deaths(context.path)
        deaths.log(world, context.points)

        def arrived(result: PieceResult) -> None:
            if coordinator:
                coordinator.arrived(result)

        def failed(piece: Piece, text: str) -> None:
            if coordinator:
                coordinator.failed(piece, text)

        def end() -> Exit:
            return coordinator.end(complete) if coordinator else Exit.COMPLETE

        handlers = Handlers(
            do=compute,
            keep=lambda result: journal.add(result.evaluated),
            arrived=arrived,
            failed=failed,
            tolerant=context.options.tolerant,
            deaths=lambda piece: deaths.at(compute.index(piece.point)),
            more=lambda: coordinator.next_pieces() if coordinator else [],
        )
        complete = share_out(world, [], handlers, context.experiment.stop, context.experiment.team)
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


def _open_coordinator(context: SweepContext, held: ExitStack) -> Coordinator:
    """Return rank 0's coordinator, with all that an earlier run left; its files are closed with `held`."""
    folder, identity, shard = context.journals, journal_identity(context), context.identity.shard
    sampling, shape = context.job.sampling, context.job.chosen_grid.shape
    if sampling is None:
        raise RuntimeError("no sampling in the job; expected to be called for sampled sweeps alone.")
    if context.found is not None and context.found.done and not folder.is_dir():
        log(context.world, f"{folder} is missing, and with it what each example gave: it is evaluated again.")
    given = enumerate(context.engine.examples.values())  # at theta*, in the order of the data
    origins = [Evaluated(THETA, number, 0, found) for number, found in given]
    plan = begin_plan(folder, identity, origins)
    _check_plan(context, plan, sampling)
    if plan.repeated:
        note(context.world, f"{folder}: {plan.repeated} rounds of its plan stand there twice and count once.")
    points, splits = math.prod(shape), []
    for number, (name, split) in enumerate(context.experiment.splits.items()):
        origin = plan.origins[number]
        labels = split.targets.numpy().astype(np.int64) if is_classes(split.targets) else None
        frame = frame_of(origin.found.losses, labels, sampling, number)
        rounds = Rounds(frame, origin.found, points, sampling.error, plan.rounds[number])
        splits.append(SplitState(name, rounds, sampling, context.experiment.task.metrics))
    slices = hashlib.sha256(identity + b"".join(origin.found.losses.tobytes() for origin in plan.origins)).digest()
    stored = list(read_journals(folder, slices, shard))
    order = [int(np.ravel_multi_index(index, shape)) for index in context.points]
    state = SampledState(splits, context.batch, order, stored)
    plan_log = None if shard else held.enter_context(PlanLog(folder, identity))
    writer = WholeWriter(context.path)
    held.callback(writer.close)
    before = f"{len(stored)} slices of examples are there; " if stored else ""
    bars = f"{points} points to bars of {sampling.error:.3g}"
    log(context.world, f"{context.path}: {before}{bars}, on {ranks(context.world.size, context.options.group)}.")
    return Coordinator(context, state, writer, plan_log, slices)


def frame_of(losses: NDArray[np.float64], labels: NDArray[np.int64] | None, sampling: Sampling, split: int) -> Frame:
    """Return a split's examples in the order in which they are evaluated; as they are where all of them will be."""
    if all_examples_because(sampling.error, len(losses)):
        return in_order(len(losses))
    return make_frame(losses, labels, sampling.seed, stream=split)


def _check_plan(context: SweepContext, plan: Plan, sampling: Sampling) -> None:
    """Refuse a plan that is not of these examples, points and levels: its checksums say nothing of who wrote it.

    Raises:
        UserError: on rank 0.
    """
    points, ours = math.prod(context.job.chosen_grid.shape), list(context.engine.examples.values())
    sizes = [len(split) for split in context.experiment.splits.values()]
    sound = [len(one.found) for one in plan.origins] == sizes
    sound = sound and all(a.found.others.keys() == b.others.keys() for a, b in zip(plan.origins, ours, strict=True))
    for size, rounds in zip(sizes, plan.rounds, strict=False):
        sound = sound and climbs(rounds, points, len(prefixes(sampling.error, size)))
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
