"""Panels side by side with titles, a caption and a colour bar; knows nothing of what is drawn in a panel."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from landscape_mpi.plot.levels import Numbers
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import GREY, LEGEND_COLUMNS, SMALL

_MOST_COLUMNS = 4
_POINTS_AN_INCH = 72
_POINTS_A_LINE = 1.35 * SMALL
_BESIDE = 0.5
"""Inches of a column that small print above a panel leaves free: text as wide as the column would squeeze the panel."""
_TITLE_CHARACTERS_AN_INCH = 11.5
_LEGEND = 11.0
_MARGIN = 0.04
_SEPARATOR = " · "


@dataclass(frozen=True)
class Texts:
    """What is written around the panels.

    Attributes:
        titles: one a panel.
        own: the facts that hold for one panel alone, for each panel.
        shared: the facts of the caption.
        title: stands above all panels.
    """

    titles: Sequence[str]
    own: Sequence[Sequence[str]]
    shared: Sequence[str]
    title: str | None = None


def panels(count: int, size: tuple[float, float], spare: float, projection: str | None) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels of `size` inches, and `spare` inches to their right."""
    rows = math.ceil(count / _MOST_COLUMNS)
    columns = math.ceil(count / rows)
    # Compressed panels close ranks around a fixed aspect, and 3-D axes do not know how wide their labels are.
    layout: Literal["compressed", "constrained"] = "constrained" if projection else "compressed"
    figure = Figure(figsize=(columns * size[0] + spare, rows * size[1]), layout=layout)
    axes = [figure.add_subplot(rows, columns, index + 1, projection=projection) for index in range(count)]
    return figure, axes


def bar(figure: Figure, axes: Sequence[Axes], mappable: ScalarMappable, scale: Scale, label: str) -> None:
    """Draw the one colour bar of all panels."""
    banded = isinstance(mappable.norm, BoundaryNorm)
    colours = figure.colorbar(mappable, ax=list(axes), label=label, extend=scale.extend, aspect=25, pad=0.02)
    labelled = scale.band_ticks if banded else scale.ticks
    colours.ax.yaxis.set_major_locator(FixedLocator(labelled))
    colours.ax.yaxis.set_minor_locator(NullLocator())
    colours.ax.yaxis.set_major_formatter(FuncFormatter(Numbers.of(labelled)))


def write(figure: Figure, axes: Sequence[Axes], texts: Texts) -> None:
    """Write titles above the panels and the caption below them."""
    for panel, title, facts in zip(axes, texts.titles, texts.own, strict=True):
        head(panel, title, facts)
    if texts.title:
        figure.suptitle(_folded(texts.title, float(figure.get_figwidth())))
    caption = _wrapped(texts.shared, float(figure.get_figwidth()))
    if caption:
        figure.supxlabel("\n".join(caption), fontsize=SMALL, color=GREY, linespacing=1.3)


def settle(figure: Figure, pictures: Sequence[Artist]) -> None:
    """Lay the figure out for good, as high as its content: what is drawn from now on moves nothing.

    The pictures lie within their panels: they move nothing either, and are left out, because they are what takes long.
    """
    for picture in pictures:
        picture.set_visible(False)
    figure.draw_without_rendering()
    content = Bbox.union([axes.get_tightbbox() or axes.bbox for axes in figure.axes]).height
    around = sum(text.get_window_extent().height for text in figure.texts)
    height = (content + around) / figure.dpi + _MARGIN * (2 + len(figure.texts))
    figure.set_figheight(min(height, float(figure.get_figheight())))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for picture in pictures:
        picture.set_visible(True)


def head(axes: Axes, title: str, facts: Sequence[str]) -> None:
    """Write a panel's title and, smaller below it, its own facts; both above a legend, if there is one."""
    legend = axes.get_legend()
    above = _LEGEND * math.ceil(len(legend.get_texts()) / LEGEND_COLUMNS) if legend else 0.0
    lines = _wrapped(facts, _width(axes) - _BESIDE)
    if lines:
        axes.annotate(
            "\n".join(lines),
            (0.5, 1),
            xytext=(0, above + 2.5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=GREY,
        )
    axes.set_title(_folded(title, _width(axes)), pad=above + 4 + len(lines) * _POINTS_A_LINE)


def _width(axes: Axes) -> float:
    """Return the width of the column a panel stands in, in inches."""
    figure, spec = axes.figure, axes.get_subplotspec()
    columns = spec.get_gridspec().ncols if spec else 1
    return float(figure.bbox.width / figure.dpi) / columns


def _folded(title: str, width: float) -> str:
    """Break a title that is wider than a width in inches; mathematics cannot be broken."""
    return title if "$" in title else textwrap.fill(title, int(width * _TITLE_CHARACTERS_AN_INCH))


def _wrapped(facts: Sequence[str], width: float) -> list[str]:
    """Join facts into lines of small print of a width in inches, broken between two facts where possible."""
    lines: list[str] = []
    for fact in facts:
        joined = f"{lines[-1]}{_SEPARATOR}{fact}" if lines else fact
        if lines and _inches(joined) <= width:
            lines[-1] = joined
        else:
            lines += _broken(fact, width)
    return lines


def _broken(fact: str, width: float) -> list[str]:
    """Break a fact into lines of small print that are not wider than a width in inches."""
    most = len(fact)
    while most > 1 and any(_inches(line) > width for line in textwrap.wrap(fact, most)):
        most -= 1
    return textwrap.wrap(fact, most)


def _inches(text: str) -> float:
    """Return how wide a line of small print is."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=SMALL), ismath=False)
    return float(width) / _POINTS_AN_INCH
