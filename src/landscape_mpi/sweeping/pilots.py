"""Evaluates the pilots of a rise: a few points on all examples, before there is an order of the examples.

Their results stay in journals of their own until the plan holds them. A sweep that was stopped goes on with what is
there, and shards that run at the same time share the pilots through these files.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from landscape_mpi.data.split import batches
from landscape_mpi.log import Pace, ProgressLine, log
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.failures import Deaths
from landscape_mpi.mpi.world import on_ranks, together
from landscape_mpi.sampling import pilot_points
from landscape_mpi.surface import Evaluated, Journal, Shard, read_pilots, read_plan
from landscape_mpi.sweeping.context import SweepContext
from landscape_mpi.sweeping.pieces import BATCHES, Piece, PieceComputer, PieceResult, share_pieces

AT_ONCE = 0.5
"""The fraction of its part of what is missing that a shard does before it looks at what the others have done."""


class Pilots:
    """Rank 0's account of the pilots: which pieces are missing, and what the others gave."""

    def __init__(
        self, pieces: Sequence[Piece], origins: Sequence[PerExample], stored: Iterable[Evaluated] = ()
    ) -> None:
        """Take the pieces, what theta* gave of each split, and what the journals hold."""
        self.pieces, self._origins = pieces, origins
        self._places = {(piece.split, piece.point, piece.start): place for place, piece in enumerate(pieces)}
        self._found: dict[int, PerExample] = {}
        self._given_up: set[int] = set()
        self.add(stored)

    def add(self, stored: Iterable[Evaluated]) -> None:
        """Take what journals hold of the pieces, whichever rank evaluated them."""
        for one in stored:
            place = self._places.get((one.split, one.point, one.start))
            if place is None or place in self._found or len(one.found) != self.pieces[place].examples:
                continue
            if one.found.others.keys() == self._origins[one.split].others.keys():
                self._found[place] = one.found

    def give_up(self, point: int) -> None:
        """Give up a point."""
        self._given_up.add(point)

    @property
    def missing(self) -> list[int]:
        """The places of the pieces that nobody has done yet."""
        places = enumerate(self.pieces)
        return [place for place, one in places if place not in self._found and one.point not in self._given_up]

    @property
    def left(self) -> int:
        """Examples that nobody has evaluated yet."""
        return sum(self.pieces[place].examples for place in self.missing)

    def share(self, shard: Shard | None, ranks: int) -> list[Piece]:
        """Return what to evaluate before the journals are looked at again; without shards, all that is missing.

        Each shard first does a part of its own. Then it helps with the parts of the others, beginning at their ends, so
        that shards that run at the same time seldom do the same piece.
        """
        missing, count = self.missing, len(self.pieces)
        if shard:
            first, after = (count * index // shard.count for index in (shard.index, shard.index + 1))
            own = [place for place in missing if first <= place < after]
            others = [place for place in missing if not first <= place < after]
            others.sort(key=lambda place: (first - place) % count)
            missing = [*own, *others][: max(ranks, math.ceil(AT_ONCE * len(missing) / shard.count))]
        return [self.pieces[place] for place in missing]

    def results(self) -> list[Evaluated]:
        """Return what every point gave on all examples of every split, in the order of the data."""
        whole: dict[tuple[int, int], list[PerExample]] = {}
        for place, piece in enumerate(self.pieces):
            if piece.point not in self._given_up:
                whole.setdefault((piece.point, piece.split), []).append(self._found[place])
        return [Evaluated(point, split, 0, PerExample.join(parts)) for (point, split), parts in whole.items()]


class PilotLead:
    """Rank 0 while pilots are evaluated: hands out pieces, takes results, shows progress."""

    def __init__(self, context: SweepContext, pilots: Pilots, identity: bytes) -> None:
        """Take the context, what is known of the pilots, and the identity of their journals."""
        self._context, self._pilots, self._identity = context, pilots, identity
        self._begun = False
        self._line, self._pace = ProgressLine(), Pace()

    def next_pieces(self) -> list[Piece]:
        """Return what is missing; a shard gets some of it, after a look at what the others have done meanwhile."""
        shard = self._context.identity.shard
        if shard and self._begun:
            self._pilots.add(read_pilots(self._context.journals, self._identity))
        self._begun = True
        return self._pilots.share(shard, self._context.world.size)

    def arrived(self, result: PieceResult) -> None:
        """Take what a piece gave."""
        self._pilots.add([result.evaluated])
        self._pace.count(len(result.evaluated.found))
        self._line.show(self._text)

    def failed(self, piece: Piece, text: str) -> None:  # noqa: ARG002
        """Give up a pilot at which the network fails twice; it is tried again as an ordinary point."""
        self._pilots.give_up(piece.point)

    def _text(self, _: float) -> str:
        pilots, whole = self._pilots, len(self._pilots.pieces)
        done = whole - len(pilots.missing)
        return f"points on all examples: {done} of {whole} slices, {self._pace.left(pilots.left)} left"


def evaluate_pilots(context: SweepContext, deaths: Deaths, identity: bytes) -> list[Evaluated] | None:
    """Return what the points give on all examples that precede the order of a rise's examples; collective.

    The list is empty where bars are of the loss, where there is a plan, which holds the results, and on ranks other
    than 0. A point at which ranks died, or which raises twice where that is tolerated, is left out.

    Returns:
        None, on every rank, where a rank had a reason to stop before all were done.
    """
    world = context.world
    pilots = on_ranks(world, world.rank == 0, _begin, context, deaths, identity)
    if not world.bcast(bool(pilots and pilots.missing)):
        return pilots.results() if pilots else []
    compute = PieceComputer(context, dict.fromkeys(context.experiment.splits))
    lead = PilotLead(context, pilots, identity) if pilots else None
    with together(
        world, Journal, context.journals, world.rank, identity, context.identity.shard, kind="pilots"
    ) as kept:
        complete = world.bcast(share_pieces(context, compute, kept, lead, deaths))
    if not complete:
        return None
    return pilots.results() if pilots else []


def _begin(context: SweepContext, deaths: Deaths, identity: bytes) -> Pilots | None:
    """Return what there is of the pilots, after a message about it; None where none are wanted."""
    job = context.job
    if job.sampling is None or job.sampling.of == "loss" or read_plan(context.journals, identity):
        return None
    chosen = pilot_points(job.chosen_grid.coordinates())
    shape = job.chosen_grid.shape
    points = [point for point in chosen if not deaths.at(tuple(int(i) for i in np.unravel_index(point, shape)))]
    sizes = {name: len(split) for name, split in context.experiment.splits.items()}
    pieces = pieces_of(points, sizes, context.batch)
    pilots = Pilots(pieces, list(context.engine.examples.values()), read_pilots(context.journals, identity))
    if points:
        there = len(pieces) - len(pilots.missing)
        before = f"; {there} of {len(pieces)} slices of them are there" if there else ""
        text = f"{len(points)} points on all examples first, to see which of them rise{before}."
        log(context.world, f"{context.path}: {text}")
    return pilots


def pieces_of(points: Sequence[int], sizes: Mapping[str, int], batch: int) -> list[Piece]:
    """Return all examples of every split at some points, in pieces of whole batches: no bit depends on the ranks."""
    return [
        Piece(split, point, cut.start, cut.stop)
        for point in points
        for split, size in enumerate(sizes.values())
        for cut in batches(size, BATCHES * batch)
    ]
