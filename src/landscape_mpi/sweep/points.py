"""A grid index -> the record of its point, on all images; knows no file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from landscape_mpi.evaluate import measure
from landscape_mpi.surface import Record
from landscape_mpi.sweep.attempt import Attempts, Index


@dataclass(frozen=True)
class Computer:
    """Turns a grid index into a record; `constants` are results that are the same at every point."""

    attempts: Attempts
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, index: Index) -> Record:
        """Evaluate every split at the point.

        Raises:
            PieceError: the evaluation raised; the text names rank, host and point.
        """
        started = time.perf_counter()
        evaluator = self.attempts.evaluator
        values = self.attempts.at(index, lambda point: measure(evaluator, point, self.splits, self.metrics))
        seconds = time.perf_counter() - started
        return Record(index, {**values, **self.constants}, self.attempts.world.rank, seconds, self.attempts.note)
