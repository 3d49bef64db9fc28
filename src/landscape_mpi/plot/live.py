"""Draws the points of a running sweep in one figure, which a notebook shows and replaces as more points are done."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from landscape_mpi.errors import UserError
from landscape_mpi.plot import style
from landscape_mpi.plot.run import inline


class Done(Protocol):
    """A point that is done, as `landscape_mpi.PointDone` is."""

    @property
    def coordinates(self) -> tuple[float, ...]:
        """Alpha, beta."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Its results by name."""

    @property
    def done(self) -> int:
        """How many points are done."""

    @property
    def points(self) -> int:
        """How many there are."""


class LiveFigure:
    """A figure that fills in while a sweep runs: `landscape_mpi.sweep(..., on_point=landscape_mpi.LiveFigure())`.

    Lines are curves, planes are heat maps with a logarithmic colour scale where all values are above 0. The figure is
    drawn again every few seconds at most, and with the last point. Outside notebooks it is not shown.

    Attributes:
        figure: a matplotlib `Figure`, as far as it has been drawn.
    """

    def __init__(
        self, metric: str = "train_loss", every: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take what to draw.

        Args:
            metric: a result that is one number, as in `Surface.metrics`.
            every: seconds between two drawings, at least.
            clock: the time in seconds.
        """
        self.metric, self.figure = metric, Figure(figsize=(4.6, 3.6), layout="constrained")
        self._every, self._clock, self._next = every, clock, clock()
        self._values: dict[tuple[float, ...], float] = {}
        self._handle: Any = None

    def __call__(self, point: Done) -> None:
        """Take a point that is done, and draw if it is time to.

        Raises:
            UserError: the point has no such result, or it has more than two coordinates.
        """
        if self.metric not in point.values or np.ndim(point.values[self.metric]):
            names = ", ".join(name for name, value in point.values.items() if not np.ndim(value))
            raise UserError("metric", f"found {self.metric!r}", expected=f"one of {names}")
        if len(point.coordinates) > 2:
            raise UserError("on_point", "a LiveFigure draws lines and planes, and this is a volume")
        self._values[point.coordinates] = float(point.values[self.metric])
        if point.done == point.points or self._clock() >= self._next:
            self._draw(f"{point.done:,} of {point.points:,} points")
            self._show()
            self._next = self._clock() + self._every

    def _draw(self, title: str) -> None:
        """Draw what is known of every point; places of points that are not done stay empty."""
        self.figure.clear()
        places = sorted(self._values)
        with mpl.rc_context(style.RC):
            axes = self.figure.add_subplot(title=title, xlabel="alpha")
            if len(places[0]) == 1:
                axes.plot([place[0] for place in places], [self._values[place] for place in places], marker=".")
                axes.set_ylabel(self.metric)
                return
            alphas, betas = (sorted({place[axis] for place in places}) for axis in (0, 1))
            values = np.full((len(betas), len(alphas)), math.nan)
            for (alpha, beta), value in self._values.items():
                values[betas.index(beta), alphas.index(alpha)] = value if math.isfinite(value) else math.nan
            positive = bool(np.all(values[~np.isnan(values)] > 0)) and not np.isnan(values).all()
            drawn = axes.pcolormesh(
                alphas, betas, values, shading="nearest", cmap=style.colours(), norm="log" if positive else None
            )
            axes.set_ylabel("beta")
            self.figure.colorbar(drawn, label=self.metric)

    def _show(self) -> None:
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is None:
            return
        if self._handle is None:
            self._handle = display(inline(self.figure), display_id=True)
        else:
            self._handle.update(self.figure)
