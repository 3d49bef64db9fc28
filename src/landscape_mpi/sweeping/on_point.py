"""Calls a function of the user's own with each point that is done, on rank 0."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.plugin import own_code

Value = float | NDArray[np.float64]


@dataclass(frozen=True)
class PointDone:
    """A point that is done, and how far the sweep is.

    Attributes:
        index: where it stands in the arrays of the surface: the places along (gamma,) beta and alpha, as many as there
            are axes.
        coordinates: alpha, beta, ... as many as there are.
        values: its results by name, such as `train_loss`; an array where a result is several numbers.
        done: how many points are done, with those that were there before.
        points: how many there are.
    """

    index: tuple[int, ...]
    coordinates: tuple[float, ...]
    values: Mapping[str, Value]
    done: int
    points: int


OnPoint = Callable[[PointDone], object]
"""The user's function; its return value is ignored."""


def tell(on_point: OnPoint, point: PointDone) -> None:
    """Call the user's function.

    Raises:
        UserError: it raised.
    """

    def given() -> str:
        return f" at the point {point.index}; what is done by then stays in the file"

    with own_code("on_point", "it", given):
        on_point(point)


class Told:
    """Tells the estimates of a sampled sweep: a point is told each time that one of its results has changed."""

    def __init__(self) -> None:
        """Begin with nothing told."""
        self._told: dict[str, NDArray[Any]] = {}

    def changed(self, results: Mapping[str, NDArray[Any]], there: NDArray[np.bool_]) -> list[int]:
        """Return the numbers of the points in `there` whose results are not those of the last time.

        Args:
            results: by name, [points, ...].
            there: [points], which points have results.
        """
        news = np.zeros(there.shape, np.bool_)
        for name, values in results.items():
            before = self._told.get(name)
            differs = np.ones(values.shape, np.bool_) if before is None else values != before
            if before is not None and values.dtype.kind == "f":
                differs &= ~(np.isnan(values) & np.isnan(before))
            news |= differs.reshape(len(there), -1).any(axis=1)
        self._told = {name: values.copy() for name, values in results.items()}
        return [int(point) for point in np.flatnonzero(news & there)]
