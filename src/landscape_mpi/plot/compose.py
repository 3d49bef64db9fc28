"""Surfaces and a wish -> one figure; knows nothing of command lines or of image files."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape_mpi.plot import labels, line, panels, path, repeats, style
from landscape_mpi.plot.axes import alike, frame
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.kinds import LINE, PLANES, Kind, check_levels, kind_of
from landscape_mpi.plot.least import above_least
from landscape_mpi.plot.options import Wish
from landscape_mpi.plot.quantity import is_shown
from landscape_mpi.plot.scale import Scale, scale_of
from landscape_mpi.plot.surface3d import mark_trained
from landscape_mpi.surface.read import Surface


def compose(surfaces: Sequence[Surface], wish: Wish) -> Figure:
    """Draw surfaces as the panels of one figure, on one scale.

    Raises:
        UserError: the wish does not suit the surfaces.
    """
    name = kind_of(surfaces, wish.kind)
    check_levels(name, wish.levels)
    with mpl.rc_context(style.RC):
        return _lines(surfaces, wish) if name == LINE else _planes(surfaces, wish, PLANES[name])


def _planes(surfaces: Sequence[Surface], wish: Wish, kind: Kind) -> Figure:
    fields, wish = above_least([field_of(surface, wish.metric) for surface in surfaces], wish)
    scale = scale_of(fields, wish)
    width, height = panel_size(fields[0], kind)
    spare = style.BAR if kind.colours else 0
    figure, axes = panels.panels(len(fields), (width, height), spare, kind.projection)
    drawn = [draw_plane(panel, field, kind, scale) for panel, field in zip(axes, fields, strict=True)]
    if kind.colours:
        panels.bar(figure, axes, kind.colours(scale), scale, fields[0].quantity.label)
    panels.write(figure, axes, plane_texts(fields, wish, kind, scale))
    panels.settle(figure, drawn)
    for panel, picture in zip(axes, drawn, strict=True):
        if kind.label:
            kind.label(panel, picture)
    return figure


def draw_plane(panel: Axes, field: Field, kind: Kind, scale: Scale) -> Artist:
    """Draw a plane with all its marks; return the picture, to be labelled once the layout is settled."""
    picture = kind.draw(panel, field, scale)
    if kind.projection is None:
        frame(panel, field)
        path.draw(panel, field)
    else:
        mark_trained(panel, field, scale)
        path.draw_raised(panel, field, scale)
    return picture


def plane_texts(fields: Sequence[Field], wish: Wish, kind: Kind, scale: Scale) -> panels.Texts:
    """Return titles and facts of planes on one scale."""
    facts = [*labels.scale_facts(fields, scale), *([] if kind.colours else labels.cut_facts(scale))]
    return _texts(labels.panel_titles(fields), [labels.facts([field]) for field in fields], facts, wish)


def _lines(surfaces: Sequence[Surface], wish: Wish) -> Figure:
    groups = repeats.grouped(surfaces)
    shown = [
        [[field_of(surface, metric) for surface in group] for metric in _metrics(group[0], wish)] for group in groups
    ]
    sides = line.sides_of(shown, wish)
    figure, axes = panels.panels(len(shown), style.LINE_PANEL, 0, None)
    for panel, metrics in zip(axes, shown, strict=True):
        line.draw(panel, metrics, sides)
    titles = labels.panel_titles([metrics[0][0] for metrics in shown], [repeats.stem(group) for group in groups])
    panels.write(figure, axes, _texts(titles, [labels.line_facts(metrics) for metrics in shown], [], wish))
    panels.settle(figure, [])
    return figure


def _metrics(surface: Surface, wish: Wish) -> list[str | None]:
    """Return what to draw along a line: as wished, else every loss and accuracy."""
    if wish.metric:
        return [wish.metric]
    shown = [name for name in surface.metrics if is_shown(name)]
    return [*sorted(shown, key=lambda name: not name.startswith("train"))] or [None]


def panel_size(field: Field, kind: Kind) -> tuple[float, float]:
    """Return width and height of a panel in inches; equal aspects decide the height."""
    if kind.projection:
        return style.RELIEF_PANEL
    width, rest = style.PLANE_PANEL
    ranges = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    return width, rest + (width * ranges[1] / ranges[0] if alike(*ranges) else 0.8 * width)


def _texts(titles: Sequence[str], facts: Sequence[Sequence[str]], more: Sequence[str], wish: Wish) -> panels.Texts:
    """Return titles and facts: those that hold for all panels go into the caption.

    Raises:
        UserError: there is not one caption a panel, or mathematics in a text is not readable.
    """
    titles = labels.captioned(titles, wish.captions, "panel")
    title = labels.checked(wish.title) if wish.title else None
    if title and len(titles) == 1 and not wish.captions:
        titles, title = [title], None
    shared = labels.shared(facts)
    own = [[fact for fact in panel if fact not in shared] for panel in facts]
    return panels.Texts(titles, own, [*shared, *more], title)
