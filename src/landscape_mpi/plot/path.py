"""Draws the paths of training runs on the picture of a plane or a line: checkpoints, marks and a legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
from numpy.typing import NDArray

from landscape_mpi.plot.field import Field, between, linear
from landscape_mpi.plot.origin import plain
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import LEGEND_COLUMNS, RED, SMALL, series_colours
from landscape_mpi.surface.training import Trajectory

Values = NDArray[np.float64]
_ABOVE = 4.0
"""zorder: above the lines of levels and their labels, below the star of theta*."""
_WIDTH = 0.9
_EDGE = 0.03
"""Where the path stands in the picture of a line, as a share of its height: checkpoints have no loss on the line."""
_HALO = withStroke(linewidth=2.2, foreground="white")
STAR = 6.5
"""The size of the star of theta*, in points."""
_ACROSS = 150.0
"""About how long either axis of a plane is, in points."""
_MOST_NESTED = 200
"""The most marks of a picture that are checked for other marks on the same spot."""
_EDGE_OF_MARK = 0.9
"""How much of a mark shows around another mark on the same spot, in points."""


@dataclass(frozen=True)
class Mark:
    """How some of the checkpoints are marked; without a name they are in no legend.

    Attributes:
        gid: epochs, start, end or drops.
        where: int [n], the checkpoints.
        marker: matplotlib's marker: a star, a circle, a square or a diamond.
        face: its colour inside.
        size: in points; the side of a square or diamond, the diameter of a circle or star.
        name: its name in the legend.
        below: how many of the marks lie above it.
    """

    gid: str
    where: NDArray[np.intp]
    marker: str
    face: str
    size: float
    name: str = ""
    below: int = 0

    @property
    def radius(self) -> float:
        """The distance from its centre to its outermost point, in points."""
        return self.size / (math.sqrt(2) if self.marker in "Ds" else 2)


def coloured(path: Trajectory) -> list[tuple[Trajectory, Any]]:
    """Return the runs of a path with a colour each; one alone is black."""
    runs = path.runs
    return [*zip(runs, ["black"] if len(runs) == 1 else series_colours(len(runs)), strict=True)]


def marks(path: Trajectory, colour: Any = "black") -> list[Mark]:
    """Return the marks of a path: its checkpoints, its start and end, and where the learning rate drops."""
    last = path.epoch.size - 1
    found = [
        Mark("epochs", np.arange(1, last), "o", colour, 1.8),
        Mark("start", np.arange(1), "s", "white", 4.2, f"epoch {path.epoch[0]}"),
        Mark("end", np.arange(last, last + 1), "o", "white", 7.5, f"epoch {path.epoch[-1]}"),
        Mark("drops", path.drops, "D", RED, 4.2, "learning rate drops"),
    ]
    return [mark for mark in found if mark.where.size]


def marked(field: Field, path: Trajectory) -> list[tuple[Trajectory, Any, list[Mark]]]:
    """Return the runs of a path, each with its colour and its marks; every drop of the learning rate has its own mark.

    Marks on one spot of a picture of the field stand around each other: the star of theta* is innermost, followed by
    the drops, the start and the end. If there are too many marks to check, they keep their sizes.
    """
    runs = [(run, colour, marks(run, colour)) for run, colour in coloured(path)]
    if sum(mark.where.size for _, _, found in runs for mark in found if mark.name) > _MOST_NESTED:
        return runs
    flat = path.beta is None
    steps = [_ACROSS / (float(np.ptp(axis)) or 1.0) for axis in (field.alpha, field.beta)]
    placed = [] if flat else [(np.zeros(2), Mark("trained", np.arange(0), "*", "white", STAR))]
    nested = [[replace(mark, below=_MOST_NESTED) for mark in found if not mark.name] for _, _, found in runs]
    for gid in ("drops", "start", "end"):
        for number, (run, _, found) in enumerate(runs):
            # on a line the runs stand one above the other
            up = np.full(run.alpha.size, number * 3 * _ACROSS) if flat else np.asarray(run.beta) * steps[1]
            places = np.column_stack([run.alpha * steps[0], up])
            chosen = [(each, where) for each in found if each.gid == gid for where in each.where]
            for mark, where in chosen:
                size = max([mark.size, *(_around(mark, other, places[where] - at) for at, other in placed)])
                one = replace(mark, where=np.array([where]), size=size, below=len(placed))
                placed.append((places[where], one))
                nested[number].append(one)
    return [(run, colour, each) for (run, colour, _), each in zip(runs, nested, strict=True)]


def _around(mark: Mark, above: Mark, distance: Values) -> float:
    """Return the size, in points, at which a mark shows around another mark that lies above it at a distance."""
    away = float(np.hypot(*distance))
    if away > (mark.size + above.size) / 3:
        return 0.0
    # the tips of a star may reach the edge, and two marks of one kind at one place say the same
    within = (
        0.36 * above.size if above.marker == "*" else above.size / 2 if above.marker == mark.marker else above.radius
    )
    return 2 * (away + within + _EDGE_OF_MARK)


def draw(axes: Axes, field: Field) -> None:
    """Draw the path of a surface, if it has one, over a flat picture, whose limits stay."""
    path = field.surface.trajectory
    if path is None or path.beta is None:
        return
    axes.autoscale(enable=False)
    for run, colour, found in marked(field, path):
        points = np.column_stack([run.alpha, np.asarray(run.beta)])
        line = LineCollection(
            [points], colors=[colour], linewidths=_WIDTH, zorder=_ABOVE, path_effects=[_HALO], gid="path"
        )
        # not a line of the axes: labels avoid the boxes around such lines, and this box is most of the picture
        axes.add_collection(line, autolim=False)
        for mark in found:
            x, y = points[mark.where].T
            axes.scatter(
                x,
                y,
                s=mark.size**2,
                marker=mark.marker,
                c=[mark.face],
                edgecolors=[colour],
                linewidths=0.6,
                zorder=_ABOVE + 0.1 / (1 + mark.below),
                gid=mark.gid,
            )
    legend(axes, _handles(path))


def draw_raised(axes: Axes3D, field: Field, scale: Scale) -> None:
    """Draw the path of a surface, if any, on the surface in three dimensions, with a gap where the surface has one.

    It is drawn over the surface everywhere, also behind a ridge.
    """
    path = field.surface.trajectory
    if path is None or path.beta is None:
        return
    heights = scale.height(linear(field))
    for run, colour, found in marked(field, path):
        x, y = run.alpha, np.asarray(run.beta)
        z = between(heights, field, x, y)
        axes.plot(x, y, z, color=colour, linewidth=_WIDTH, zorder=20, path_effects=[_HALO], gid="path")
        for mark in found:
            place = (values[mark.where] for values in (x, y, z))
            axes.plot(*place, zorder=20 + 1 / (1 + mark.below), gid=mark.gid, **_style(mark, colour))
    legend(axes, _handles(path))


def draw_along(axes: Axes, field: Field) -> list[Line2D]:
    """Draw the path of a surface, if it has one, along the lower edge of the picture of a line.

    Returns:
        What a legend says of its marks.
    """
    path = field.surface.trajectory
    if path is None:
        return []
    edge: dict[str, Any] = {"transform": axes.get_xaxis_transform()}
    for number, (run, colour, found) in enumerate(marked(field, path)):
        height = _EDGE * (1 + 1.5 * number)
        line = {"color": colour, "linewidth": _WIDTH, "zorder": _ABOVE}
        axes.plot(run.alpha, np.full(run.alpha.size, height), gid="path", **edge, **line)
        for mark in found:
            style = {**_style(mark, colour), "zorder": _ABOVE + 0.1 / (1 + mark.below)}
            axes.plot(run.alpha[mark.where], np.full(mark.where.size, height), gid=mark.gid, **edge, **style)
    return _handles(path)


def outside(field: Field, path: Trajectory) -> int:
    """Return how many checkpoints of a path lie outside the grid."""
    inside = _within(field.alpha, path.alpha)
    if path.beta is not None:
        inside &= _within(field.beta, path.beta)
    return int(np.count_nonzero(~inside))


def reach(field: Field, path: Trajectory) -> float | None:
    """Return how far from theta* a path comes on plane or line; None where the file lacks the directions' lengths."""
    attributes = field.surface.attributes
    if path.beta is None:
        length = attributes.get("delta_norm")
        return float(np.max(np.abs(path.alpha))) * length if isinstance(length, float) else None
    delta, eta, cosine = (attributes.get(name) for name in ("delta_norm", "eta_norm", "cosine"))
    if not all(isinstance(value, float) for value in (delta, eta, cosine)):
        return None
    x, y = path.alpha * delta, path.beta * eta  # type: ignore[operator]
    return float(np.sqrt(np.max(x * x + y * y + 2 * cosine * x * y)))  # type: ignore[operator]


def _within(axis: Values, values: Values) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (axis.min() <= values) & (values <= axis.max())
    return inside


def _style(mark: Mark, colour: Any = "black") -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": mark.marker,
        "markersize": mark.size,
        "markerfacecolor": mark.face,
        "markeredgecolor": colour,
        "markeredgewidth": 0.6,
    }


def legend(axes: Axes, handles: Sequence[Artist]) -> None:
    """Draw a legend above the axes, for the marks of a path and other parts of the picture."""
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncol=min(len(handles), LEGEND_COLUMNS),
        frameon=False,
        borderaxespad=0.1,
        fontsize=SMALL,
        handletextpad=0.1,
        columnspacing=0.9,
    )


def _handles(path: Trajectory) -> list[Line2D]:
    """Return the legend's entries: marks, and for several runs also names, with start and end instead of epochs."""
    runs = coloured(path)
    if len(runs) > 1:
        # a legend would leave out a name that begins with an underscore
        names = [f" {plain(name)}" if name.startswith("_") else plain(name) for name in path.names]
        lines = [Line2D([], [], color=colour, label=name) for name, (_, colour) in zip(names, runs, strict=True)]
        kinds = {mark.gid: mark for run, _ in runs for mark in marks(run) if mark.name}
        named = [replace(mark, name=mark.gid if mark.gid != "drops" else mark.name) for mark in kinds.values()]
        return [*lines, *(Line2D([], [], label=mark.name, **_style(mark)) for mark in named)]
    return [Line2D([], [], label=mark.name, **_style(mark)) for mark in marks(path) if mark.name]
