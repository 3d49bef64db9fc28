"""Composes figures: a panel for each surface, all on one scale, with titles, a colour bar and a caption."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.plot import between, density, labels, line, path, plane, render, style
from landscape_mpi.plot.field import Field, field_of, is_shown
from landscape_mpi.plot.options import KINDS, Options
from landscape_mpi.plot.scale import Numbers, Scale, above_least, number, scale_of
from landscape_mpi.surface.read import Surface

LINE = "line"
_MOST_COLUMNS = 4
_POINTS_AN_INCH = 72
_POINTS_A_LINE = 1.35 * style.SMALL
_BESIDE = 0.5
"""Inches of a column that small print above a panel leaves free: text as wide as the column would squeeze the panel."""
_TITLE_CHARACTERS_AN_INCH = 11.5
_LEGEND = 11.0
_MARGIN = 0.04
_SEPARATOR = " · "


@dataclass(frozen=True)
class Kind:
    """A kind of picture of a plane.

    Attributes:
        draw: draws one field on one panel (3-D axes where `projection` says so).
        colours: what the colour bar shows; None where an axis shows the values.
        projection: the projection of the axes.
        label: writes on what was drawn, once the layout is settled.
        least: the fewest points that each axis of the grid may have.
    """

    draw: Callable[[Any, Field, Scale], Artist]
    colours: Callable[[Scale], ScalarMappable] | None
    projection: str | None = None
    label: Callable[[Any, Any], None] | None = None
    least: int = 2


PLANES: Mapping[str, Kind] = {
    "contour": Kind(plane.draw_contours, lambda scale: scale.mappable(style.line_colours()), label=plane.label_levels),
    "filled": Kind(plane.draw_filled, lambda scale: scale.banded(style.colours()), label=plane.label_levels),
    "heat": Kind(plane.draw_heat, lambda scale: scale.mappable(style.colours()), least=1),
    "surface": Kind(plane.draw_surface, None, projection="3d"),
}


@dataclass(frozen=True)
class Texts:
    """What is written around the panels.

    Attributes:
        titles: one per panel.
        own: for each panel, the facts that hold for it alone.
        shared: the facts of the caption.
        title: stands above all panels.
    """

    titles: Sequence[str]
    own: Sequence[Sequence[str]]
    shared: Sequence[str]
    title: str | None = None


def kind_of(surfaces: Sequence[Surface], asked: str | None) -> str:
    """Return the kind of picture: as asked, else contours of planes and curves of lines.

    Raises:
        UserError: there is no such kind, it does not suit a surface, or lines and planes are mixed.
    """
    if asked is not None and asked not in KINDS:
        raise UserError(Flag("kind"), f"found {asked!r}", expected=f"one of {', '.join(KINDS)}")
    name = asked or (LINE if surfaces[0].is_line else "contour")
    if name == density.KIND:
        return name
    for surface in surfaces:
        size = str(surface.points) if surface.is_line else " x ".join(map(str, reversed(surface.shape)))
        if surface.is_line != (name == LINE):
            found, fitting = ("line", (LINE,)) if surface.is_line else ("plane", (*PLANES, render.KIND))
            raise UserError(
                surface.path,
                (f"found a {found} of {size} points, which ", Flag("kind", (name,)), " cannot draw"),
                expected=Flag("kind", fitting),
            )
        if not surface.is_line and min(surface.shape) < (PLANES[name].least if name in PLANES else 2):
            raise UserError(surface.path, f"a plane of {size} points has no area", expected=Flag("kind", ("heat",)))
    return name


def check_levels(name: str, levels: Sequence[float] | None) -> None:
    """Refuse contour levels for a picture that has none.

    Raises:
        UserError: there are levels.
    """
    if levels and (name == LINE or PLANES[name].label is None):
        first, *rest = *(other for other, kind in PLANES.items() if kind.label), render.KIND
        raise UserError(
            Flag("levels"),
            (Flag("kind", (name,)), " has no contours"),
            expected=(Flag("kind", (first,)), *(f" or {other}" for other in rest)),
        )


def compose(surfaces: Sequence[Surface], options: Options) -> Figure:
    """Draw surfaces as the panels of one figure, on one scale.

    Raises:
        UserError: the options do not suit the surfaces.
    """
    name = kind_of(surfaces, options.kind)
    if name == density.KIND:
        with mpl.rc_context(style.RC):
            return _densities(surfaces, options)
    if name == render.KIND:
        return render.compose(surfaces, options)
    check_levels(name, options.levels)
    with mpl.rc_context(style.RC):
        return _lines(surfaces, options) if name == LINE else _planes(surfaces, options, PLANES[name])


def _planes(surfaces: Sequence[Surface], options: Options, kind: Kind) -> Figure:
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    scale = scale_of(fields, options)
    figure, axes = plane_panels(fields, kind)
    drawn = [draw_plane(panel, field, kind, scale) for panel, field in zip(axes, fields, strict=True)]
    draw_bar(figure, axes, kind, scale, fields[0].quantity.label)
    write(figure, axes, plane_texts(fields, options, kind, scale))
    settle(figure, drawn)
    for panel, picture in zip(axes, drawn, strict=True):
        if kind.label:
            kind.label(panel, picture)
    return figure


def plane_panels(fields: Sequence[Field], kind: Kind) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each plane, as wide and high as the first one's ranges ask."""
    if kind.projection:
        size = style.RELIEF_PANEL
    else:
        width, rest = style.PLANE_PANEL
        ranges = float(np.ptp(fields[0].alpha)), float(np.ptp(fields[0].beta))
        size = width, rest + (width * ranges[1] / ranges[0] if plane.alike(*ranges) else 0.8 * width)
    return panels(len(fields), size, style.BAR if kind.colours else 0, kind.projection)


def draw_plane(panel: Axes, field: Field, kind: Kind, scale: Scale) -> Artist:
    """Draw a plane with all its marks; return the picture, to be labelled once the layout is settled."""
    picture = kind.draw(panel, field, scale)
    if kind.projection is None:
        plane.frame(panel, field)
        path.draw(panel, field)
        between.draw(panel, field)
    else:
        plane.mark_on_surface(panel, field, scale)
        path.draw_raised(panel, field, scale)
    return picture


def plane_texts(fields: Sequence[Field], options: Options, kind: Kind, scale: Scale) -> Texts:
    """Return titles and facts of planes on one scale."""
    facts = [*labels.scale_facts(fields, scale), *([] if kind.colours else labels.cut_facts(scale))]
    return _texts(labels.panel_titles(fields), [labels.facts([field]) for field in fields], facts, options)


def _lines(surfaces: Sequence[Surface], options: Options) -> Figure:
    """Draw lines: what `options` names, else every loss and accuracy, training first."""
    shown, over = [], []
    groups = line.with_worst(line.grouped(surfaces))
    for group, worst in groups:
        every = sorted(filter(is_shown, group[0].metrics), key=lambda name: not name.startswith("train"))
        metrics = [options.metric] if options.metric or not every else every
        shown.append([[field_of(surface, metric) for surface in group] for metric in metrics])
        over.append([[field_of(surface, metric) for metric in metrics] for surface in worst])
    sides = line.sides_of([*shown, *over], options)
    figure, axes = panels(len(shown), style.LINE_PANEL, 0, None)
    for panel, drawn, above in zip(axes, shown, over, strict=True):
        line.draw(panel, drawn, sides, [field for fields in above for field in fields])
    titles = labels.panel_titles([drawn[0][0] for drawn in shown], [line.stem(group) for group, _ in groups])
    facts = [labels.line_facts(drawn, above) for drawn, above in zip(shown, over, strict=True)]
    write(figure, axes, _texts(titles, facts, [], options))
    settle(figure, [])
    return figure


def _densities(surfaces: Sequence[Surface], options: Options) -> Figure:
    """Draw densities of eigenvalues: along lines where all surfaces are lines, else at the point nearest to theta*."""
    along = density.is_along(surfaces, options)
    width = density.bandwidth_of(surfaces, options)
    figure, axes = panels(len(surfaces), style.LINE_PANEL, style.BAR if along else 0, None)
    if along:
        lines = density.densities_along(surfaces, width)
        scale = density.scale_of([one for line in lines for one in line.values()], surfaces, options)
        facts = [density.draw_along(*each, scale) for each in zip(axes, surfaces, lines, strict=True)]
        bar = figure.colorbar(ScalarMappable(scale, style.colours()), ax=list(axes), aspect=25, pad=0.02)
        bar.set_label(density.DENSITY_LABEL)
        bar.ax.yaxis.set_major_formatter(FuncFormatter(number))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        points = density.densities_at(surfaces, width)
        scale = density.scale_of(points, surfaces, options)
        facts = [density.draw_at(*each, scale) for each in zip(axes, surfaces, points, strict=True)]
    titles = labels.panel_titles([field_of(surface) for surface in surfaces])
    write(figure, axes, _texts(titles, facts, [], options))
    settle(figure, [])
    return figure


def _texts(titles: Sequence[str], facts: Sequence[Sequence[str]], more: Sequence[str], options: Options) -> Texts:
    """Return titles and facts: those that hold for all panels go into the caption.

    Raises:
        UserError: there is not one caption per panel, or mathematics in a text is not readable.
    """
    titles = labels.captioned(titles, options.captions, "panel")
    title = labels.checked(options.title) if options.title else None
    if title and len(titles) == 1 and not options.captions:
        titles, title = [title], None
    shared = labels.shared(facts)
    own = [[fact for fact in panel if fact not in shared] for panel in facts]
    return Texts(titles, own, [*shared, *more], title)


def panels(count: int, size: tuple[float, float], spare: float, projection: str | None) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels of `size` inches, and `spare` inches to their right."""
    rows = math.ceil(count / _MOST_COLUMNS)
    columns = math.ceil(count / rows)
    # A compressed layout moves panels of a fixed aspect together, but 3-D axes do not know how wide their labels are.
    layout: Literal["compressed", "constrained"] = "constrained" if projection else "compressed"
    figure = Figure(figsize=(columns * size[0] + spare, rows * size[1]), layout=layout)
    axes = [figure.add_subplot(rows, columns, index + 1, projection=projection) for index in range(count)]
    return figure, axes


def draw_bar(figure: Figure, axes: Sequence[Axes], kind: Kind, scale: Scale, label: str) -> None:
    """Draw the one colour bar of all panels, where the kind of picture has one."""
    if kind.colours is None:
        return
    mappable = kind.colours(scale)
    labelled = scale.band_ticks if isinstance(mappable.norm, BoundaryNorm) else scale.ticks
    colours = figure.colorbar(mappable, ax=list(axes), label=label, extend=scale.extend, aspect=25, pad=0.02)
    colours.ax.yaxis.set_major_locator(FixedLocator(labelled))
    colours.ax.yaxis.set_minor_locator(NullLocator())
    colours.ax.yaxis.set_major_formatter(FuncFormatter(Numbers.of(labelled)))


def write(figure: Figure, axes: Sequence[Axes], texts: Texts) -> None:
    """Write titles above the panels and the caption below them."""
    for panel, title, facts in zip(axes, texts.titles, texts.own, strict=True):
        write_head(panel, title, facts)
    if texts.title:
        figure.suptitle(_folded(texts.title, float(figure.get_figwidth())))
    caption = _wrapped(texts.shared, float(figure.get_figwidth()))
    if caption:
        figure.supxlabel("\n".join(caption), fontsize=style.SMALL, color=style.GREY, linespacing=1.3)


def write_head(axes: Axes, title: str, facts: Sequence[str]) -> None:
    """Write a panel's title and, smaller below it, its own facts; both above a legend, if there is one."""
    spec, legend = axes.get_subplotspec(), axes.get_legend()
    columns = spec.get_gridspec().ncols if spec else 1
    width = float(axes.figure.bbox.width / axes.figure.dpi) / columns  # of the column, in inches
    above = _LEGEND * math.ceil(len(legend.get_texts()) / style.LEGEND_COLUMNS) if legend else 0.0
    lines = _wrapped(facts, width - _BESIDE)
    if lines:
        axes.annotate(
            "\n".join(lines),
            (0.5, 1),
            xytext=(0, above + 2.5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=style.SMALL,
            color=style.GREY,
        )
    axes.set_title(_folded(title, width), pad=above + 4 + len(lines) * _POINTS_A_LINE)


def settle(figure: Figure, pictures: Sequence[Artist]) -> None:
    """Lay the figure out finally, as high as its content: later drawing moves nothing.

    The pictures lie within their panels and move nothing either. They are left out, because they take the most time.
    A figure that has no layout engine stays as it is.
    """
    engine = figure.get_layout_engine()
    if engine is None:
        return
    for picture in pictures:
        picture.set_visible(False)
    engine.execute(figure)
    content = Bbox.union([axes.get_tightbbox() or axes.bbox for axes in figure.axes]).height
    around = sum(text.get_window_extent().height for text in figure.texts)
    height = (content + around) / figure.dpi + _MARGIN * (2 + len(figure.texts))
    figure.set_figheight(min(height, float(figure.get_figheight())))
    engine.execute(figure)
    figure.set_layout_engine("none")
    for picture in pictures:
        picture.set_visible(True)


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
            continue
        most = len(fact)
        while most > 1 and any(_inches(each) > width for each in textwrap.wrap(fact, most)):
            most -= 1
        lines += textwrap.wrap(fact, most)
    return lines


def _inches(text: str) -> float:
    """Return how wide a line of small print is."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=style.SMALL), ismath=False)
    return float(width) / _POINTS_AN_INCH
