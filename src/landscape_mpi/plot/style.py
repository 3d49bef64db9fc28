"""Sets fonts, line widths, colours and sizes of every figure, in one place for all modules that draw."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap

COLUMN = 3.4
"""The width of one column of a paper, in inches."""

PLANE_PANEL = (2.55, 0.75)
"""The width of a plane's panel with its labels, and how much higher the panel is than the plane, in inches."""

BAR = 0.85
"""The width of a colour bar with its labels, in inches."""

LINE_PANEL = (COLUMN, 2.6)
RELIEF_PANEL = (COLUMN, 2.85)

SMALL = 6.5
"""The size of captions and contour labels, in points."""

LEGEND_COLUMNS = 3
"""The most entries that stand side by side above a panel."""

GAP = "#d5d5d5"
"""The colour of places whose result is NaN or inf."""

BLUE, RED, GREY, FAINT = "#1f5fa8", "#c62f2d", "#444444", "#e4e4e4"

ORANGE, PURPLE = "#e08a1e", "#7a4fa3"

_SERIES = (BLUE, RED, "#2d8a4e", ORANGE, PURPLE, "#3aa6b9", "#8c564b", "#d65a9d")

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "figure.titlesize": 9.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.05,
    "pdf.fonttype": 42,
    "svg.hashsalt": "landscape_mpi",
}
"""What differs from matplotlib's defaults: sizes for a column of a paper, embedded fonts, repeatable files."""


def colours() -> Colormap:
    """Return the perceptually uniform map for areas."""
    return colormaps["viridis"]


def line_colours() -> Colormap:
    """Return the same map without its light end, which cannot be read as lines on white."""
    return ListedColormap(colormaps["viridis"](np.linspace(0, 0.82, 256)), "viridis_dark")


def series_colours(count: int) -> list[Any]:
    """Return colours for curves to be told apart: blue and red first; more than eight are shades of the map."""
    return list(_SERIES[:count]) if count <= len(_SERIES) else list(line_colours()(np.linspace(0, 1, count)))
