"""One rank's share of a surface: computing points, and what happens when one raises; knows no file."""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape_mpi import job
from landscape_mpi.evaluate import Evaluator, Point, measure
from landscape_mpi.surface import Record, Writer
from landscape_mpi.sweep.coordinate import Dispenser, Failure, Index, LocalSource, RemoteSource, serve, work
from landscape_mpi.sweep.world import World, failure_text, tell

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""


class PointError(Exception):
    """The evaluation of a point raised on this rank alone; the text names rank, host and point."""


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


@dataclass(frozen=True)
class Computer:
    """Turns a grid index into a record."""

    world: World
    evaluator: Evaluator
    grid: Grid
    splits: tuple[str, ...]
    metrics: tuple[str, ...]

    def __call__(self, index: Index) -> Record:
        """Evaluate every split at the point.

        Raises:
            PointError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        point = self.grid.point(index)
        try:
            values = measure(self.evaluator, point, self.splits, self.metrics)
        except Exception as error:
            raise PointError(self._failure(index, point, error)) from error
        return Record(index, values, self.world.rank, time.perf_counter() - started)

    def _failure(self, index: Index, point: Point, error: Exception) -> str:
        return (
            f"rank {self.world.rank} on {self.world.host} failed at alpha {point.alpha:g}, beta {point.beta:g} "
            f"(index {index}) with {type(error).__name__}: {error}\n{traceback.format_exc()}"
        )


def compute_points(
    world: World, order: list[Index], compute: Callable[[Index], Record], writer: Writer, step: Callable[[], None]
) -> None:
    """Compute all points of `order` on all ranks; collective, and no rank spins.

    Raises:
        PointError: on rank 0, when a point raised there; a point that raises elsewhere ends every rank at once.
    """
    if world.rank != 0:
        _compute_remotely(world, compute, writer)
        return

    def arrived(record: Record) -> None:
        writer.at_root(record)
        step()

    dispenser = Dispenser(order, arrived)
    if world.size == 1:
        work(LocalSource(dispenser), compute, writer.at_source)
    elif not world.threads:
        serve(world, dispenser, lambda text: _end(world, text))
    else:
        server = threading.Thread(target=_serve, args=(world, dispenser), name="coordinator", daemon=True)
        server.start()
        work(LocalSource(dispenser), compute, writer.at_source)
        server.join()


def _serve(world: World, dispenser: Dispenser) -> None:
    try:
        serve(world, dispenser, lambda text: _end(world, text))
    except Exception:
        _end(world, failure_text(world))


def _compute_remotely(world: World, compute: Callable[[Index], Record], writer: Writer) -> None:
    try:
        work(RemoteSource(world), compute, writer.at_source)
    except Exception as error:
        text = str(error) if isinstance(error, PointError) else failure_text(world)
        world.send(Failure(text), 0)
        time.sleep(GRACE)
        raise


def _end(world: World, text: str) -> None:
    tell(world, f"error: {text}")
    world.abort(1)
