"""An evaluation at a point of the grid: named where it raises, noted where memory ran short; knows no result."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi import job
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import Evaluator, Point
from landscape_mpi.log import say
from landscape_mpi.mpi.coordinate import PieceError
from landscape_mpi.mpi.signals import Interrupted
from landscape_mpi.mpi.world import World

T = TypeVar("T")
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
class Attempts:
    """Evaluations on this rank.

    `batch` is that of the surface: an evaluator that runs out of memory takes fewer images at a time. `deaths` is where
    the point in hand is noted should this rank die at it. `verbose`: whether the traceback of the user's own code
    follows its sentence. `elsewhere`: what to say of points where the file has no place for who computed them.
    """

    world: World
    evaluator: Evaluator
    grid: Grid
    batch: int
    deaths: Path
    verbose: bool = False
    elsewhere: str = ""

    def __post_init__(self) -> None:
        """Remember what has been told of the batch."""
        self._told = self.batch

    def at(self, index: Index, step: Callable[[Point], T]) -> T:
        """Return what a step gives at the point of an index.

        Raises:
            PieceError: it raised; the text names rank, host and point.
        """
        point, parent = self.grid.point(index), self.world.parent
        if parent:
            parent.hold(self.deaths, self.name(index), index)
        try:
            found = step(point)
        except UserError as error:  # of their own code, at this point alone
            error.place = self._who(index)
            raise PieceError((error, error.more(self.verbose)), Exit.USER) from error
        except Interrupted:
            raise
        except BaseException as error:
            raise PieceError(self._failure(index, error)) from error
        finally:
            if parent:
                parent.release()
        self._tell()
        return found

    def name(self, index: Index) -> str:
        """Return where an index is, in words."""
        point = self.grid.point(index)
        return f"alpha {point.alpha:g}, beta {point.beta:g} (index {index})"

    @property
    def note(self) -> str:
        """What to say of the last point: what its evaluator says, and where its last digits may differ from others'."""
        return "; ".join(text for text in (self.evaluator.note, self._smaller, self.elsewhere) if text)

    @property
    def _smaller(self) -> str:
        """What to say where the batch is not the recorded one."""
        batch = self.evaluator.batch
        return f"{batch} images at a time instead of {self.batch}, for want of memory" if batch < self.batch else ""

    def _tell(self) -> None:
        """Say so, from this rank, each time that the evaluator takes fewer images."""
        if self.evaluator.batch < self._told:
            self._told = self.evaluator.batch
            say(f"note: rank {self.world.rank} on {self.world.host} evaluates {self._smaller}.")

    def _failure(self, index: Index, error: BaseException) -> str:
        return f"{self._who(index)} with {type(error).__name__}: {error}\n{traceback.format_exc()}"

    def _who(self, index: Index) -> str:
        return f"rank {self.world.rank} on {self.world.host} failed at {self.name(index)}"
