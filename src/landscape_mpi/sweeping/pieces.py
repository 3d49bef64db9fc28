"""Shares pieces of sampled sweeps among the ranks: a point on some examples of a split, kept in a journal once done."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from landscape_mpi.data.split import Examples
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.failures import Deaths
from landscape_mpi.mpi.scheduler import share_out
from landscape_mpi.sampling.order import Ints
from landscape_mpi.surface import Evaluated, Journal
from landscape_mpi.sweeping.context import Index, SweepContext
from landscape_mpi.sweeping.full import PointRunner

BATCHES = 8
"""Batches of a piece at the most: few, so that a round of few points keeps many ranks busy."""


@dataclass(frozen=True)
class Piece:
    """A point, its number in the grid row by row, on the examples at places `start` up to `stop` of a split's order."""

    split: int
    point: int
    start: int
    stop: int

    @property
    def examples(self) -> int:
        """How many examples."""
        return self.stop - self.start


@dataclass(frozen=True)
class PieceResult:
    """What a piece gave, who computed it and how long that took in seconds; `note` as in a surface's record."""

    evaluated: Evaluated
    rank: int
    seconds: float
    note: str


class PieceLead(Protocol):
    """Rank 0 of a sweep of pieces."""

    def next_pieces(self) -> list[Piece]:
        """Return what to evaluate next, once all earlier pieces are done; nothing at the end."""

    def arrived(self, result: PieceResult) -> None:
        """Take what a piece gave, from any rank."""

    def failed(self, piece: Piece, text: str) -> None:
        """Give up the point of a piece that raised twice, or at which ranks died twice."""


class PieceComputer:
    """Evaluates pieces on this rank."""

    def __init__(self, context: SweepContext, orders: Mapping[str, Ints | None]) -> None:
        """Take the context; `orders`: the order of the examples of each split, None for that of the data."""
        self._runner, self._shape, self._orders = PointRunner(context), context.job.chosen_grid.shape, orders

    def __call__(self, piece: Piece) -> PieceResult:
        """Evaluate a piece.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        name, order = list(self._orders.items())[piece.split]
        places = slice(piece.start, piece.stop)
        examples: Examples = places if order is None else order[places]
        per_example = self._runner.evaluator.per_example
        found = self._runner.run(self.index(piece.point), lambda point: per_example(point, name, examples))
        evaluated = Evaluated(piece.point, piece.split, piece.start, found)
        return PieceResult(evaluated, self._runner.world.rank, time.perf_counter() - started, self._runner.note)

    def index(self, point: int) -> Index:
        """Return the grid index ((iz,) iy, ix) or (ix,) of a point's number."""
        return tuple(int(i) for i in np.unravel_index(point, self._shape))


def share_pieces(
    context: SweepContext, compute: PieceComputer, journal: Journal, lead: PieceLead | None, deaths: Deaths
) -> bool:
    """Evaluate pieces on all ranks until `lead`, which rank 0 alone has, has no more; collective.

    Returns:
        On rank 0, whether that end was reached: False where some rank had a reason to stop. True on the others.
    """

    def arrived(result: PieceResult) -> None:
        if lead:
            lead.arrived(result)

    def failed(piece: Piece, text: str) -> None:
        if lead:
            lead.failed(piece, text)

    handlers = Handlers(
        do=compute,
        keep=lambda result: journal.add(result.evaluated),
        arrived=arrived,
        failed=failed,
        tolerant=context.options.tolerant,
        deaths=lambda piece: deaths.at(compute.index(piece.point)),
        more=lambda: lead.next_pieces() if lead else [],
    )
    return share_out(context.world, [], handlers, context.experiment.stop, context.experiment.team)
