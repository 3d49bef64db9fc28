"""Evaluates one point of the grid on this rank; an error names the rank, the host and the point."""

import logging
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import Point, measure, place
from landscape_mpi.log import say
from landscape_mpi.metrics.names import BAR, EXAMPLES, means
from landscape_mpi.mpi.scheduler import PieceError
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.surface import Record
from landscape_mpi.sweeping.context import Index, SweepContext
from landscape_mpi.sweeping.deaths import note_of

T = TypeVar("T")


def point_at(axes: Sequence[NDArray[np.float64]], index: Index) -> Point:
    """Return the point at (ix,) of a line, (iy, ix) of a plane, ...; `axes`: coordinates along alpha, beta, ..."""
    return tuple(float(at[i]) for at, i in zip(axes, reversed(index), strict=True))


class PointRunner:
    """Runs an evaluation at a point; keeps, for the process above this one, which point it is in case the rank dies."""

    def __init__(self, context: SweepContext) -> None:
        """Take the context of the sweep; `batch` of its engine falls below the file's where memory runs short."""
        self.world, self.evaluator, self._context = context.world, context.engine.evaluator, context
        self._axes, self._deaths = context.job.chosen_grid.coordinates(), note_of(context.path)
        self._logged = context.batch

    def run(self, index: Index, evaluate: Callable[[Point], T]) -> T:
        """Return what an evaluation gives at the point of an index.

        Raises:
            PieceError: it raised; the text names rank, host and point.
        """
        parent, world = self.world.parent, self.world
        point = point_at(self._axes, index)
        where = f"{place(point)} (index {index})"
        failed = f"rank {world.rank} on {world.host} failed at {where}"
        if parent:
            parent.hold(self._deaths, where, index)
        try:
            found = evaluate(point)
        except UserError as error:  # of their own code, at this point alone
            error.place = failed
            raise PieceError((error, error.more(self._context.options.verbose)), Exit.USER) from error
        except Interrupted:
            raise
        except BaseException as error:
            raise PieceError(f"{failed} with {type(error).__name__}: {error}\n{traceback.format_exc()}") from error
        finally:
            if parent:
                parent.release()
        if self.evaluator.batch < self._logged:
            self._logged = self.evaluator.batch
            text = f"note: rank {world.rank} on {world.host} evaluates {self._smaller_batch}."
            say(text, logging.WARNING, world.rank)
        return found

    @property
    def note(self) -> str:
        """What to record of the last point: the evaluator's note, and why its last digits may differ from others'."""
        return "; ".join(filter(None, [self.evaluator.note, self._smaller_batch, self._context.platform_note]))

    @property
    def _smaller_batch(self) -> str:
        """What to say where the batch is not the recorded one; else empty."""
        batch, recorded = self.evaluator.batch, self._context.batch
        return f"{batch} examples at a time instead of {recorded}, for want of memory" if batch < recorded else ""


class PointComputer:
    """Turns a grid index into the record of its point, on all examples."""

    def __init__(self, context: SweepContext) -> None:
        """Take the context; a surface with error bars says of points on all examples that the bars are 0."""
        self._runner, self._context = PointRunner(context), context
        self._constants: dict[str, float] = {}
        if context.job.sampling is not None:
            for name, split in context.experiment.splits.items():
                self._constants |= {f"{mean}{BAR}": 0.0 for mean in means(name, context.experiment.task.metrics)}
                self._constants[f"{name}{EXAMPLES}"] = len(split)

    def __call__(self, index: Index) -> Record:
        """Evaluate every split at the point, and the Hessian where it is asked for.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        values, note = self._runner.run(index, self._evaluate)
        seconds = time.perf_counter() - started
        notes = "; ".join(filter(None, [self._runner.note, note]))
        return Record(index, {**values, **self._constants}, self._context.world.rank, seconds, notes)

    def _evaluate(self, point: Point) -> tuple[dict[str, float], str]:
        task, curvature = self._context.experiment.task, self._context.curvature
        values, note = measure(self._runner.evaluator, point, task.splits, task.metrics), ""
        if curvature is not None:
            curved = curvature.at(point)
            values, note = {**values, **curved.values}, curved.note
        return values, note
