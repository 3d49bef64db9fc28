"""Evaluates one point of the grid on this rank, and reads at which points ranks died in earlier runs.

An error names the rank, the host and the point. Points at which a rank died come last; after two deaths they are
marked failed.
"""

import json
import logging
import os
import stat
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Exit, UserError, printable
from landscape_mpi.evaluate import MemberError, Point, measure, place
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.log import note, say
from landscape_mpi.metrics.registry import BAR, EXAMPLES, means
from landscape_mpi.mpi.failures import LARGEST
from landscape_mpi.mpi.scheduler import PieceError
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import World
from landscape_mpi.surface import Record
from landscape_mpi.sweeping.context import Index, SweepContext

LONGEST = 200
"""Characters of what a line says."""


def note_of(surface: Path) -> Path:
    """Return the file with a line for each death at a point of a surface."""
    return surface.with_name(f".{surface.name}.deaths")


class Deaths:
    """The deaths of ranks at points of a surface, in runs since the last complete one."""

    def __init__(self, surface: Path) -> None:
        """Read the note of a surface; lines that are not ours are passed over."""
        self._note, text = note_of(surface), ""
        self._lines: defaultdict[Index, list[tuple[str, str]]] = defaultdict(list)
        with suppress(OSError):  # nothing is read where something else than a file of ours lies there
            descriptor = os.open(self._note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as stream:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    text = stream.read(2 * LARGEST).decode(errors="replace")
        for line in text.splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):  # such as of a line that was cut short
                found = json.loads(line)
                death = printable(f"{found['who']} died at {found['place']} ({found['how']})")[:LONGEST]
                self._lines[tuple(int(i) for i in found["index"])].append((line, death))

    def at(self, index: Index) -> Sequence[str]:
        """Return a sentence for each death at a point."""
        return [text for _, text in self._lines.get(index, ())]

    def log(self, world: World, points: Iterable[Index]) -> None:
        """Say what becomes of those of a run's points at which ranks died."""
        counts = [len(self.at(index)) for index in points]
        once, twice = counts.count(1), sum(count > 1 for count in counts)
        parts = [f"{once} come last, one at a time"] if once else []
        parts += [f"{twice} are marked failed after two deaths"] if twice else []
        if parts:
            note(world, f"of the points at which a rank died before, {' and '.join(parts)}.")

    def end(self, failed: Iterable[Index]) -> None:
        """Keep, at the end of a run, one death of each point that failed because of its deaths; remove all others."""
        kept = [self._lines[index][-1][0] for index in failed if self.at(index)]
        with suppress(OSError):  # a disk that refuses keeps no surface from being complete
            if kept:
                with atomic_write(self._note) as made:
                    made.write_text("".join(f"{line}\n" for line in kept))
            else:
                self._note.unlink(missing_ok=True)


T = TypeVar("T")


def point_at(axes: Sequence[NDArray[np.float64]], index: Index) -> Point:
    """Return the point at (ix,) of a line, (iy, ix) of a plane, ...; `axes`: coordinates along alpha, beta, ..."""
    return tuple(float(at[i]) for at, i in zip(axes, reversed(index), strict=True))


class PointRunner:
    """Runs evaluations at points, and tells the parent process which point it is in case the rank dies."""

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
        failed = f"failed at {where}"
        if parent:
            parent.hold(self._deaths, where, index)
        try:
            found = evaluate(point)
        except UserError as error:  # of their own code, at this point alone
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
        return f"{batch} examples at a time instead of {recorded}, because memory is short" if batch < recorded else ""


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
