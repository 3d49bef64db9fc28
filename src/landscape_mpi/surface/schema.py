"""Defines what a surface file holds: names, types and meanings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.surface.trajectory import Trajectory

SCHEMA = 2
"""Of new files. In files of schema 1 the numbers of examples are called `train_images`, `test_images`."""
NOT_YET, DONE, FAILED = 0, 1, 2
LONGEST = 200
"""Bytes of `/error`."""
LETTERS = "xyz"
"""What the names of an axis' datasets and groups begin with, in the order of the axes."""
Direction = Sequence[tuple[str, NDArray[np.float32]]]
"""Names and values, of parameters in `named_parameters()` order."""


@dataclass(frozen=True)
class NewSurface:
    """All that is known when a surface file is created; afterwards only results are written.

    Attributes:
        axes: float64 coordinates along alpha, beta, ...
        results: the names of the result datasets.
        directions: delta, eta, ...: one an axis.
        job: the text of the job.
        attributes: what goes to the root: provenance and everything that fixes the numbers.
        buffers: which way each direction takes the running statistics of batch norm; empty where these do not move.
        trajectory: the path of a training run.
    """

    axes: tuple[NDArray[np.float64], ...]
    results: tuple[str, ...]
    directions: tuple[Direction, ...]
    job: str
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    buffers: tuple[Direction, ...] = ()
    trajectory: Trajectory | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """[nx] of a line, [ny, nx] of a plane: the last number counts along alpha."""
        return tuple(len(coordinates) for coordinates in reversed(self.axes))


@dataclass(frozen=True)
class Record:
    """A point's results by dataset name, with its grid index (iy, ix) or (ix,), the rank and the seconds it took.

    `note` says what was unusual, and goes to `/error`. `status` is DONE or
    FAILED.
    """

    index: tuple[int, ...]
    values: Mapping[str, float]
    rank: int
    seconds: float
    note: str = ""
    status: int = DONE

    @staticmethod
    def failure(index: tuple[int, ...], text: str) -> "Record":
        """Return the record of a point without a result, and why there is none."""
        return Record(index, {}, -1, math.nan, text, FAILED)


@dataclass(frozen=True)
class AuditResult:
    """The result of an audit: points on all examples, to test their error bars; `/audit` holds the four in this order.

    `points` looked at, `misses` among them, `worst` |error| / bar, and whether it `passed`.
    """

    points: int
    misses: int
    worst: float
    passed: bool

    @property
    def words(self) -> str:
        """What it found, in words."""
        if not self.points:
            return "every point stands on all examples, so there was nothing to compare"
        verdict = "passed" if self.passed else "FAILED, the bars cannot be trusted"
        return (
            f"{verdict}: of {self.points} points on all examples {self.misses} missed their bars (5 % should), "
            f"worst |error| / bar {self.worst:.2f}"
        )


def check_schema(path: Path, found: object) -> int:
    """Return a file's schema, its attribute `schema`, if this version can know its meaning.

    Raises:
        UserError: it is no number from 1 to `SCHEMA`.
    """
    if not isinstance(found, int) or not 1 <= found <= SCHEMA:
        raise UserError(
            path,
            f"is of schema {found}, and this version of landscape_mpi reads 1 to {SCHEMA}",
            expected="a file of this version or an older one",
            remedy="install the version that wrote it, or the file is damaged",
        )
    return found
