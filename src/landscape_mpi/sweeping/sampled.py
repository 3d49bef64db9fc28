"""A surface filled with some images a point: round by round, each slice of images on some rank, until all bars hold."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from threadpoolctl import threadpool_limits

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import is_classes
from landscape_mpi.job import experiment
from landscape_mpi.log import log
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.sampling import PerImage, Rounds, all_images_because, prefixes
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
from landscape_mpi.surface.planlog import Round
from landscape_mpi.sweeping.books import Book, Books, frame_of
from landscape_mpi.sweeping.context import Ready
from landscape_mpi.sweeping.deaths import Deaths
from landscape_mpi.sweeping.full import ranks
from landscape_mpi.sweeping.sampled_state import Desk
from landscape_mpi.sweeping.slices import Found, Piece, SliceComputer, index_of


def can_save(ready: Ready) -> bool:
    """Whether the job samples images and some split is large enough for that."""
    sampling = ready.job.sampling
    sizes = [len(split) for split in ready.experiment.splits.values()]
    return sampling is not None and not all(all_images_because(sampling.error, size) for size in sizes)


def admit(ready: Ready) -> None:
    """Refuse, before anything is written, journals of another sweep beside the surface; collective.

    Raises:
        UserError: on every rank.
    """
    if can_save(ready):
        on_root(ready.world, read_plan, ready.folder, identity_of(ready))


def clear(ready: Ready) -> None:
    """Remove the journals of an earlier sweep; of a shard's own sweep its own alone, because others may use theirs."""
    shard = ready.identity.shard
    try:
        ours = can_save(ready) and read_plan(ready.folder, identity_of(ready)) is not None
    except UserError:
        ours = False
    if shard is None or can_save(ready):
        discard(ready.folder, shard if ours else None)


def leave(world: World, surface: Surface) -> Exit:
    """Return how a complete surface has ended, and say so where its audit failed."""
    if surface.audit is None or surface.audit.passed:
        return Exit.COMPLETE
    log(world, f"{surface.path}: audit: {surface.audit.words}.")
    return Exit.FAILED_POINTS


def fill(ready: Ready) -> Exit:
    """Evaluate until every bar holds, then audit; collective."""
    world = ready.world
    with ExitStack() as held:
        # a plan must not depend on how many threads multiply matrices
        held.enter_context(threadpool_limits(1, user_api="blas"))
        desk = on_ranks(world, world.rank == 0, _open_desk, ready, held)
        identity, orders = world.bcast((desk.identity, desk.orders) if desk else (b"", {}))
        journal = together(world, Journal, ready.folder, world.rank, identity, ready.identity.shard)
        held.enter_context(journal)
        compute = SliceComputer(ready.attempts, ready.job.chosen_grid.shape, orders, "accuracy" in ready.job.metrics)
        deaths = Deaths(ready.path)
        deaths.log(world, ready.visits)
        handlers = _handlers(ready, compute, journal, desk, deaths)
        complete = share_out(world, [], handlers, ready.experiment.stop)
        code = _end(ready, desk, complete, held)
        if complete and desk:
            deaths.end(index_of(point, compute.shape) for point in desk.given_up)
        return code


def _handlers(
    ready: Ready, compute: SliceComputer, journal: Journal, desk: Desk | None, deaths: Deaths
) -> Handlers[Piece, Found]:
    def keep(found: Found) -> None:
        journal.add(found.evaluated)

    def died(piece: Piece) -> Sequence[str]:
        return deaths.at(index_of(piece.point, compute.shape))

    arrived, failed, more = (desk.arrived, desk.failed, desk.turn) if desk else (_nowhere, _given_up, list[Piece])
    return Handlers(compute, keep, arrived, failed, ready.tolerant, died, more)


def _end(ready: Ready, desk: Desk | None, complete: bool, held: ExitStack) -> Exit:
    """Write how it ended and close all files; collective."""
    code = on_root(ready.world, _ending, desk, complete)
    together(ready.world, held.close)
    return ready.stopped() if code == Exit.RUN_AGAIN else code


def _ending(desk: Desk | None, complete: bool) -> Exit:
    """Write how the sweep ended where there is a desk; return the exit code."""
    return desk.end(complete) if desk else Exit.COMPLETE


def identity_of(ready: Ready) -> bytes:
    """Return what the journals of a surface carry: the same for the same numbers, 32 bytes."""
    parts = [
        experiment(ready.job),
        ready.identity.seed,
        dict(ready.identity.fingerprints),
        ready.engine.name,
        ready.batch,
    ]
    text = json.dumps(parts, sort_keys=True, default=str)  # options may hold whatever YAML does, such as dates
    return hashlib.sha256(text.encode()).digest()


def _nowhere(_: Found) -> None:
    """Take what only rank 0 hears of."""


def _given_up(_: Piece, __: str) -> None:
    """Take what only rank 0 hears of."""


def _open_desk(ready: Ready, held: ExitStack) -> Desk:
    """Return rank 0's desk, with all that an earlier run left."""
    folder, identity = ready.folder, identity_of(ready)
    if ready.found is not None and ready.found.done and not folder.is_dir():
        log(ready.world, f"{folder} is missing, and with it what each image gave: it is evaluated again.")
    plan = begin_plan(folder, identity, [_origin(ready, split) for split in range(len(ready.engine.images))])
    _check_plan(ready, plan)
    if plan.repeated:
        log(ready.world, f"note: {folder}: {plan.repeated} rounds of its plan stand there twice and count once.")
    slices = hashlib.sha256(identity + b"".join(origin.losses.tobytes() for origin in plan.origins)).digest()
    shard = ready.identity.shard
    stored = list(read_journals(folder, slices, shard))
    books = Books(_books(ready, plan), ready.batch, _visits(ready), stored)
    planlog = None if shard else held.enter_context(PlanLog(folder, identity))
    desk = held.enter_context(Desk(ready, books, WholeWriter(ready.path), planlog, slices))
    desk.greet(len(stored), ranks(ready.world.size))
    return desk


def _origin(ready: Ready, split: int) -> Evaluated:
    """Return what theta* gave for all images of a split, in the order of the data."""
    found = list(ready.engine.images.values())[split]
    return Evaluated(THETA, split, 0, found.losses, found.hits if "accuracy" in ready.job.metrics else None)


def _check_plan(ready: Ready, plan: Plan) -> None:
    """Refuse a plan that is not of these images, points and levels: its checksums say nothing of who wrote it.

    Raises:
        UserError: on rank 0.
    """
    points, sampling = int(np.prod(ready.job.chosen_grid.shape)), ready.job.sampling
    sizes = [len(split) for split in ready.experiment.splits.values()]
    known = "accuracy" in ready.job.metrics
    sound = [len(one.losses) for one in plan.origins] == sizes
    sound = sound and all((one.hits is not None) == known for one in plan.origins)
    for size, rounds in zip(sizes, plan.rounds, strict=False):
        levels = len(prefixes(sampling.error if sampling else 0.0, size))
        sound = sound and climbs(rounds, points, levels)
    if not sound:
        raise UserError(
            f"{ready.folder}: its plan is not one of this sweep's {points} points and {sizes} images; it is damaged: "
            "move the folder away, and the sweep evaluates its images again."
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


def _books(ready: Ready, plan: Plan) -> list[Book]:
    """Return a book for each split, which repeats the rounds that the plan holds."""
    sampling = ready.job.sampling
    if sampling is None:
        raise RuntimeError("no sampling in the job; expected to be called for sampled sweeps alone.")
    books = []
    for number, (name, split) in enumerate(ready.experiment.splits.items()):
        origin = plan.origins[number]
        labels = split.targets.numpy().astype(np.int64) if is_classes(split.targets) else None
        frame = frame_of(origin.losses, labels, sampling, number)
        points = int(np.prod(ready.job.chosen_grid.shape))
        rounds = Rounds(frame, PerImage(origin.losses, origin.hits), points, sampling.error, plan.rounds[number])
        books.append(Book(name, rounds, sampling))
    return books


def _visits(ready: Ready) -> list[int]:
    """Return the numbers of the points of this run, coarse to fine."""
    shape = ready.job.chosen_grid.shape
    return [int(np.ravel_multi_index(index, shape)) for index in ready.visits]
