"""Names, types and meanings of what a surface file holds; opens no file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1
NOT_YET, DONE, FAILED = 0, 1, 2
Direction = Sequence[tuple[str, NDArray[np.float32]]]
"""Parameter names and values in `named_parameters()` order."""


@dataclass(frozen=True)
class NewSurface:
    """All that is known when a surface file is created; afterwards only results are written.

    `alpha` and `beta` are float64 coordinates, `results` the names of the result datasets, `attributes` what goes
    to the root: provenance and everything that fixes the numbers.
    """

    alpha: NDArray[np.float64]
    beta: NDArray[np.float64] | None
    results: tuple[str, ...]
    delta: Direction
    eta: Direction | None
    job: str
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """[ny, nx] of a plane, [nx] of a line."""
        return (len(self.alpha),) if self.beta is None else (len(self.beta), len(self.alpha))


@dataclass(frozen=True)
class Record:
    """What a rank found at a point: the grid index (iy, ix) or (ix,), results by dataset name, and who and how long.

    `note` says what was not as it should be, though there is a result; it goes to `/error`.
    """

    index: tuple[int, ...]
    values: Mapping[str, float]
    rank: int
    seconds: float
    note: str = ""


def result_names(splits: Iterable[str], metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the result datasets of a job: for each split loss and accuracy, each with its standard error."""
    short = ["loss", "acc"] if "accuracy" in metrics else ["loss"]
    return tuple(f"{split}_{name}{suffix}" for split in splits for name in short for suffix in ("", "_stderr"))
