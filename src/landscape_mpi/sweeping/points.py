"""A grid index -> the record of its point, on all images; knows no file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from landscape_mpi.evaluate import Point, measure
from landscape_mpi.surface import Record
from landscape_mpi.sweeping.curvature import Curvature, Curved
from landscape_mpi.sweeping.point import Attempts, Index


@dataclass(frozen=True)
class Computer:
    """Turns a grid index into a record.

    `constants` are results that are the same at every point; `curvature` is None where nothing asks for the Hessian.
    """

    attempts: Attempts
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)
    curvature: Curvature | None = None

    def __call__(self, index: Index) -> Record:
        """Evaluate every split at the point, and the Hessian where it is asked for.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        values, note = self.attempts.at(index, self._at)
        seconds = time.perf_counter() - started
        notes = "; ".join(filter(None, [self.attempts.note, note]))
        return Record(index, {**values, **self.constants}, self.attempts.world.rank, seconds, notes)

    def _at(self, point: Point) -> Curved:
        values = measure(self.attempts.evaluator, point, self.splits, self.metrics)
        if self.curvature is None:
            return Curved(values, "")
        curved = self.curvature.at(point)
        return Curved({**values, **curved.values}, curved.note)
