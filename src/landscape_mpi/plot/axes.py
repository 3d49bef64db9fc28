"""What all pictures of a plane share: axes, aspect, marks and the points computed so far; draws no values."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape_mpi.plot.field import Field
from landscape_mpi.plot.labels import alpha_label, beta_label
from landscape_mpi.plot.path import STAR
from landscape_mpi.plot.style import GAP, SMALL

Values = NDArray[np.float64]

_MOST_DOTS = 2500
_CHARACTERS_A_WIDTH = 42
"""How long a label may be, in widths of the panel."""


def frame(axes: Axes, field: Field) -> None:
    """Label the axes, set their limits and aspect, and mark theta* and, on unfinished planes, the done points."""
    axes.set_xlabel(alpha_label(field.origin))
    width, height = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    equal = alike(width, height)
    axes.set_ylabel(
        textwrap.fill(beta_label(field.origin), int(_CHARACTERS_A_WIDTH * (height / width if equal else 1)))
    )
    if equal:
        axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if not field.surface.filled and field.surface.done <= _MOST_DOTS:
        _dot_done(axes, field)
    _mark_trained(axes, alone=field.surface.trajectory is None)


def grey(axes: Axes, columns: Values, rows: Values, cells: NDArray[np.bool_]) -> None:
    """Paint some cells [ny, nx] between the given edges [nx + 1] and [ny + 1] grey."""
    if cells.any():
        painted = np.ma.masked_array(np.zeros(cells.shape), ~cells)
        axes.pcolormesh(columns, rows, painted, cmap=ListedColormap([GAP]), rasterized=True, gid="gaps")


def alike(width: float, height: float) -> bool:
    """Return whether both ranges are near enough for one length to mean the same on both axes."""
    return min(width, height) > 0 and 0.5 <= width / height <= 2


def _dot_done(axes: Axes, field: Field) -> None:
    rows, columns = np.nonzero(field.done)
    axes.scatter(field.alpha[columns], field.beta[rows], s=2, color="black", alpha=0.5, linewidths=0, gid="done")


def _mark_trained(axes: Axes, *, alone: bool) -> None:
    """Mark theta* where (0, 0) lies within the axes."""
    (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    if not (left <= 0 <= right and bottom <= 0 <= top):
        return
    axes.plot(
        0, 0, marker="*", color="white", markersize=STAR, mec="black", mew=0.6, clip_on=False, zorder=5, gid="trained"
    )
    axes.annotate(
        "θ*",
        (0, 0),
        xytext=(3, 2.5) if alone else (5, 4),  # outside the marks of a path that ends there
        textcoords="offset points",
        zorder=6,
        fontsize=SMALL + 0.5,
        path_effects=[withStroke(linewidth=1.6, foreground="white")],
    )
