"""Surfaces and options -> one figure; knows nothing of command lines or of image files."""

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
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.quantity import is_shown
from landscape_mpi.plot.scale import Scale, scale_of
from landscape_mpi.plot.surface3d import mark_trained
from landscape_mpi.surface.read import Surface


def compose(surfaces: Sequence[Surface], options: Options) -> Figure:
    """Draw surfaces as the panels of one figure, on one scale.

    Raises:
        UserError: the options do not suit the surfaces.
    """
    name = kind_of(surfaces, options.kind)
    check_levels(name, options.levels)
    with mpl.rc_context(style.RC):
        return _lines(surfaces, options) if name == LINE else _planes(surfaces, options, PLANES[name])


def _planes(surfaces: Sequence[Surface], options: Options, kind: Kind) -> Figure:
    fields, options = above_least([field_of(surface, options.metric) for surface in surfaces], options)
    scale = scale_of(fields, options)
    width, height = panel_size(fields[0], kind)
    spare = style.BAR if kind.colours else 0
    figure, axes = panels.panels(len(fields), (width, height), spare, kind.projection)
    drawn = [draw_plane(panel, field, kind, scale) for panel, field in zip(axes, fields, strict=True)]
    if kind.colours:
        panels.bar(figure, axes, kind.colours(scale), scale, fields[0].quantity.label)
    panels.write(figure, axes, plane_texts(fields, options, kind, scale))
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


def plane_texts(fields: Sequence[Field], options: Options, kind: Kind, scale: Scale) -> panels.Texts:
    """Return titles and facts of planes on one scale."""
    facts = [*labels.scale_facts(fields, scale), *([] if kind.colours else labels.cut_facts(scale))]
    return _texts(labels.panel_titles(fields), [labels.facts([field]) for field in fields], facts, options)


def _lines(surfaces: Sequence[Surface], options: Options) -> Figure:
    groups = repeats.grouped(surfaces)
    shown = [
        [[field_of(surface, metric) for surface in group] for metric in _metrics(group[0], options)] for group in groups
    ]
    sides = line.sides_of(shown, options)
    figure, axes = panels.panels(len(shown), style.LINE_PANEL, 0, None)
    for panel, metrics in zip(axes, shown, strict=True):
        line.draw(panel, metrics, sides)
    titles = labels.panel_titles([metrics[0][0] for metrics in shown], [repeats.stem(group) for group in groups])
    panels.write(figure, axes, _texts(titles, [labels.line_facts(metrics) for metrics in shown], [], options))
    panels.settle(figure, [])
    return figure


def _metrics(surface: Surface, options: Options) -> list[str | None]:
    """Return what to draw along a line: as asked, else every loss and accuracy."""
    if options.metric:
        return [options.metric]
    shown = [name for name in surface.metrics if is_shown(name)]
    return [*sorted(shown, key=lambda name: not name.startswith("train"))] or [None]


def panel_size(field: Field, kind: Kind) -> tuple[float, float]:
    """Return width and height of a panel in inches; equal aspects decide the height."""
    if kind.projection:
        return style.RELIEF_PANEL
    width, rest = style.PLANE_PANEL
    ranges = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    return width, rest + (width * ranges[1] / ranges[0] if alike(*ranges) else 0.8 * width)


def _texts(
    titles: Sequence[str], facts: Sequence[Sequence[str]], more: Sequence[str], options: Options
) -> panels.Texts:
    """Return titles and facts: those that hold for all panels go into the caption.

    Raises:
        UserError: there is not one caption a panel, or mathematics in a text is not readable.
    """
    titles = labels.captioned(titles, options.captions, "panel")
    title = labels.checked(options.title) if options.title else None
    if title and len(titles) == 1 and not options.captions:
        titles, title = [title], None
    shared = labels.shared(facts)
    own = [[fact for fact in panel if fact not in shared] for panel in facts]
    return panels.Texts(titles, own, [*shared, *more], title)
