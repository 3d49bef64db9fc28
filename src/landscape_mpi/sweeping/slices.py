"""A slice of the images at a point -> what each of them gives; how the slices of a sampled sweep are cut. No file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landscape_mpi.evaluate import batches
from landscape_mpi.sampling import Request
from landscape_mpi.sampling.order import Ints
from landscape_mpi.surface import Evaluated
from landscape_mpi.sweeping.point import Attempts

BATCHES = 8
"""Batches of a piece at the most: few, so that a round of few points keeps many ranks busy."""


@dataclass(frozen=True)
class Piece:
    """A point, number in the grid row by row, on the images at places `start` up to `stop` of a split's order."""

    split: int
    point: int
    start: int
    stop: int


@dataclass(frozen=True)
class Found:
    """What a piece gave, who computed it and how long that took; `note` as in a surface's record."""

    evaluated: Evaluated
    rank: int
    seconds: float
    note: str


def cut(split: int, request: Request, batch: int) -> list[Piece]:
    """Cut a request into pieces of whole batches, so that no bit depends on who does which."""
    start = request.start
    cuts = batches(request.stop - start, BATCHES * batch)
    return [Piece(split, request.point, start + each.start, start + each.stop) for each in cuts]


@dataclass(frozen=True)
class SliceComputer:
    """Evaluates pieces; `orders` has the images of each split in the order in which they are evaluated."""

    attempts: Attempts
    shape: tuple[int, ...]
    orders: Mapping[str, Ints]
    hits: bool

    def __call__(self, piece: Piece) -> Found:
        """Evaluate a piece.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        name, order = list(self.orders.items())[piece.split]
        evaluator, images = self.attempts.evaluator, order[piece.start : piece.stop]
        found = self.attempts.at(
            index_of(piece.point, self.shape), lambda point: evaluator.per_image(point, name, images)
        )
        hits = found.hits if self.hits else None
        evaluated = Evaluated(piece.point, piece.split, piece.start, found.losses, hits)
        return Found(evaluated, self.attempts.world.rank, time.perf_counter() - started, self.attempts.note)


def index_of(point: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the grid index (iy, ix) or (ix,) of a point's number."""
    return tuple(int(i) for i in np.unravel_index(point, tuple(shape)))
