"""Surfaces and options -> a figure that notebooks and galleries show by themselves; knows no command line."""

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from landscape_mpi.plot.compose import compose
from landscape_mpi.plot.curvature import as_usual
from landscape_mpi.plot.levels import parse_levels
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.save import check_target, image_of, save
from landscape_mpi.surface.read import Surface

__all__ = ["Figure", "draw", "levels_of"]

DPI = 130
"""Of a picture within a page: as large as its text can be read."""


def draw(surfaces: Sequence[Surface], options: Options, output: str | Path | None = None) -> Figure:
    """Return the figure, and write it where that is asked for.

    Raises:
        UserError: the options do not suit the surfaces, or the file cannot be written.
    """
    if output is not None:
        check_target(Path(output))
    figure = compose(surfaces, as_usual(options, surfaces))
    if output is not None:
        save(figure, Path(output))
    # of one that pyplot does not know, notebooks would show no more than its size
    vars(figure)["_repr_html_"] = partial(_page, figure)
    return figure


def levels_of(levels: str | Sequence[float] | None) -> tuple[float, ...] | None:
    """Return contour levels, which may be written as for the command.

    Raises:
        UserError: they are no ascending numbers.
    """
    if levels is None:
        return None
    return parse_levels(levels if isinstance(levels, str) else ",".join(map(repr, map(float, levels))))


def _page(figure: Figure) -> str:
    picture = base64.b64encode(image_of(figure, ".png", DPI)).decode()
    width = round(float(figure.get_figwidth()) * 100)
    return f'<img src="data:image/png;base64,{picture}" width="{width}" alt="{_words(figure)}">'


def _words(figure: Figure) -> str:
    """Return the titles of a figure, for those who cannot see it."""
    titles = [axes.get_title() for axes in figure.axes]
    return ", ".join(title for title in titles if title).translate(str.maketrans('"<>&\n', "'()+ "))
