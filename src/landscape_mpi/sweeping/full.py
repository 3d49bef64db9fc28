"""Fills a surface with every example at every point: each rank takes points, coarse to fine, and writes its results.

An error at a point names the rank, the host and the point.
"""

import logging
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.evaluate import MemberError, Point, measure, place
from landscape_mpi.log import Progress, log, ranks, say
from landscape_mpi.metrics.registry import BAR, EXAMPLES, means
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.failures import Deaths, note_of
from landscape_mpi.mpi.scheduler import PieceError, share_out
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import together
from landscape_mpi.sampling import all_examples_because
from landscape_mpi.surface import Record, Writer, open_writer
from landscape_mpi.sweeping.context import Index, SweepContext, number_of, point_at, some_failed, stopped
from landscape_mpi.sweeping.curvature import Curved

T = TypeVar("T")


def fill(context: SweepContext) -> Exit:
    """Compute the points that a surface lacks; collective."""
    world, job, path, missing = context.world, context.job, context.path, context.missing
    # a single rank writes without MPI: MPI hides the system's reason for a refusal, and the next one ends the process
    communicator = None if context.options.through_root or world.size == 1 else world.communicator
    writer = together(world, open_writer, path, communicator, world.rank == 0, context.platforms)
    if job.sampling:
        for name, split in context.experiment.splits.items():
            context.log_all_examples(name, all_examples_because(job.sampling.error, len(split), job.sampling.of))
    done = context.found.done if context.found else 0
    plan = f"{done} points are there, {len(missing)} to do" if done else f"{len(missing)} points"
    log(world, f"{path}: {plan}, on {ranks(world.size, context.options.group)}.")
    progress = Progress(done + len(missing), done)
    unfinished = context.unfinished
    failed: list[Record] = []

    def arrived(record: Record) -> None:
        writer.at_root(record)
        progress.step()
        if unfinished:
            unfinished.forget(number_of(context, record.index))
        context.tell(record.index, record.values, progress.done)
        if writer.name_lost:
            context.experiment.stop.limit(0)

    def given_up(index: Index, text: str) -> None:
        failed.append(Record.failure(index, text))
        writer.at_failure(failed[-1])

    deaths = Deaths(path)
    deaths.log(world, missing)
    compute = PointComputer(context)
    handlers = Handlers(compute, writer.at_rank, arrived, given_up, context.options.tolerant, deaths.at)
    complete = share_out(world, missing, handlers, context.experiment.stop, context.experiment.team)
    return _close(context, writer, complete, failed, deaths)


def _close(context: SweepContext, writer: Writer, complete: bool, failed: list[Record], deaths: Deaths) -> Exit:
    """Close the file, marked where no point is missing, and say how the sweep ended as rank 0 knows it; collective."""
    world, path = context.world, context.path
    complete, failed = world.bcast((complete, failed))
    together(world, writer.sync)
    together(world, writer.finish, world.barrier, complete and not failed)
    if not complete:
        return stopped(context)
    if world.rank == 0:
        deaths.end(record.index for record in failed)
    if failed:
        return some_failed(context, [record.note for record in failed])
    log(world, f"{path}: complete. Draw it: landscape-plot {path}")
    return Exit.COMPLETE


class PointRunner:
    """Runs evaluations at points, and tells the parent process the current point in case the rank dies."""

    def __init__(self, context: SweepContext) -> None:
        """Take the context of the sweep; `batch` of its engine falls below the file's where memory runs short."""
        self.world, self.evaluator, self._context = context.world, context.engine.evaluator, context
        self._axes, self._deaths = context.job.chosen_grid.coordinates(), note_of(context.path)
        self._logged = context.batch

    def run(self, index: Index, evaluate: Callable[[Point], T]) -> T:
        """Return what an evaluation gives at the point of an index.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        parent, world = self.world.parent, self.world
        point = point_at(self._axes, index)
        where = f"{place(point)} (index {index})"
        failed = f"failed at {where}"
        if parent:
            parent.hold(self._deaths, where, index)
        if self._context.experiment.theta.is_large:
            give_back_memory()  # the gaps between freed tensors would grow from point to point
        try:
            found = evaluate(point)
        except UserError as error:  # of the user's own code, at this point alone
            error.place = f"{error.place or world.me} {failed}"
            raise PieceError((error, error.more(self._context.options.verbose)), Exit.USER) from error
        except Interrupted:
            raise
        except MemberError as error:
            raise PieceError(f"{error.who} {failed} with {error}") from error
        except BaseException as error:
            text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            raise PieceError(f"{world.me} {failed} with {text}") from error
        finally:
            if parent:
                parent.release()
        self._tell_smaller_batch()
        return found

    def _tell_smaller_batch(self) -> None:
        if self.evaluator.batch < self._logged:
            self._logged = self.evaluator.batch
            text = f"note: rank {self.world.rank} on {self.world.host} evaluates {self._smaller_batch}."
            say(text, logging.WARNING, self.world.rank)

    @property
    def note(self) -> str:
        """What to record of the last point: the evaluator's note, and why its last digits may differ from others'."""
        return "; ".join(filter(None, [self.evaluator.note, self._smaller_batch, self._context.platform_note]))

    @property
    def _smaller_batch(self) -> str:
        """What to say where the batch is not the recorded one; else empty."""
        batch, recorded = self.evaluator.batch, self._context.batch
        return f"{batch} examples at a time instead of {recorded}, because memory is short" if batch < recorded else ""


class PointComputer:
    """Turns a grid index into the record of its point, on all examples."""

    def __init__(self, context: SweepContext) -> None:
        """Take the context; a surface with error bars records bars of 0 for points on all examples."""
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
        values, note = self._runner.run(index, partial(self._evaluate, index))
        seconds = time.perf_counter() - started
        notes = "; ".join(filter(None, [self._runner.note, note]))
        return Record(index, {**values, **self._constants}, self._context.world.rank, seconds, notes)

    def _evaluate(self, index: Index, point: Point) -> tuple[dict[str, float | NDArray[np.float64]], str]:
        task, curvature, unfinished = self._context.experiment.task, self._context.curvature, self._context.unfinished
        values = measure(self._runner.evaluator, point, task.splits, task.metrics)
        work = unfinished.of(number_of(self._context, index), point) if unfinished else None
        curved = curvature.at(point, work) if curvature else Curved({}, "")
        return {**values, **curved.values}, curved.note
