"""A grid index -> the record of its point, or an error that names rank, host and point; knows no file."""

import sys
import time
import traceback
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape_mpi import job
from landscape_mpi.evaluate import Evaluator, Point, measure
from landscape_mpi.ranks import PieceError, World
from landscape_mpi.surface import Record

Index = tuple[int, ...]
"""(iy, ix) of a plane, (ix,) of a line."""


@dataclass(frozen=True)
class Grid:
    """The coordinates of a grid, float64 [nx] and [ny]; beta is None on a line."""

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64] | None

    @staticmethod
    def of(grid: job.Grid) -> "Grid":
        """Return the coordinates of a job's grid."""
        return Grid(grid.alpha.coordinates(), None if grid.beta is None else grid.beta.coordinates())

    def point(self, index: Index) -> Point:
        """Return the point at (iy, ix), or at (ix,) of a line."""
        beta = 0.0 if self.beta is None else float(self.beta[index[0]])
        return Point(float(self.alpha[index[-1]]), beta)


@dataclass
class Computer:
    """Turns a grid index into a record.

    `batch` is that of the surface: an evaluator that runs out of memory takes fewer images at a time.
    """

    world: World
    evaluator: Evaluator
    grid: Grid
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    batch: int

    def __post_init__(self) -> None:
        """Remember what has been told of the batch."""
        self._told = self.batch

    def __call__(self, index: Index) -> Record:
        """Evaluate every split at the point.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        point = self.grid.point(index)
        try:
            values = measure(self.evaluator, point, self.splits, self.metrics)
        except Exception as error:
            raise PieceError(self._failure(index, point, error)) from error
        self._tell()
        return Record(index, values, self.world.rank, time.perf_counter() - started, self._note())

    def _tell(self) -> None:
        """Say so, from this rank, each time that the evaluator takes fewer images."""
        if self.evaluator.batch < self._told:
            self._told = self.evaluator.batch
            sys.stderr.write(f"note: rank {self.world.rank} on {self.world.host} evaluates {self._note()}.\n")

    def _note(self) -> str:
        """Say so where the batch is not the recorded one: last digits may differ from those of other points."""
        batch = self.evaluator.batch
        return f"{batch} images at a time instead of {self.batch}, for want of memory" if batch < self.batch else ""

    def _failure(self, index: Index, point: Point, error: Exception) -> str:
        return (
            f"rank {self.world.rank} on {self.world.host} failed at alpha {point.alpha:g}, beta {point.beta:g} "
            f"(index {index}) with {type(error).__name__}: {error}\n{traceback.format_exc()}"
        )
