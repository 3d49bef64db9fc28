"""Draws the curve between two networks, and the straight line, on the picture of the plane that holds both."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from landscape_mpi.job import CURVES
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.path import legend
from landscape_mpi.plot.style import RED

_PLACES = 201
"""Points along a curve that are drawn."""
_ABOVE = 4.0
"""zorder: as of the path of a training run."""
_HALO = withStroke(linewidth=2.2, foreground="white")


def draw(axes: Axes, field: Field) -> None:
    """Draw curve and straight line of a surface of `plane.kind: curve` over a flat picture, whose limits stay."""
    origin, attributes = field.origin, field.surface.attributes
    along, beside = attributes.get("bend_alpha"), attributes.get("bend_beta")
    weight_of = CURVES.get(origin.curve or "")
    if weight_of is None or origin.bent or not (isinstance(along, float) and isinstance(beside, float)):
        return
    t = np.linspace(0.0, 1.0, _PLACES)
    weight = np.array([weight_of(float(at)) for at in t])
    ways = {
        "straight line": (t, np.zeros(_PLACES), "--", "black"),
        "curve": (t + weight * (along - 0.5), weight * beside, "-", RED),
    }
    axes.autoscale(enable=False)
    lines = [
        axes.plot(x, y, style, color=colour, lw=1.1, zorder=_ABOVE, path_effects=[_HALO], label=name, gid=name)[0]
        for name, (x, y, style, colour) in ways.items()
    ]
    for x, y, marker, name in ((1.0, 0.0, "o", "end"), (along, beside, "D", "bend")):
        axes.plot(x, y, marker, color="white", mec="black", mew=0.6, ms=4.2, zorder=_ABOVE + 0.1, gid=name)
    legend(axes, lines)
