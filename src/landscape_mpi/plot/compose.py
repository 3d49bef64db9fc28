"""Surfaces and a wish -> one figure; knows nothing of command lines or of image files."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from landscape_mpi.plot import labels, line, panels, style
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.frame import alike, frame
from landscape_mpi.plot.kinds import LINE, PLANES, Kind, check_levels, kind_of
from landscape_mpi.plot.quantity import is_accuracy, is_loss
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.plot.wish import Wish
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
    fields = [field_of(surface, wish.metric) for surface in surfaces]
    scale = scale_of(fields, wish)
    width, height = _panel_size(fields[0], kind)
    spare = style.BAR if kind.colours else 0
    figure, axes = panels.panels(len(fields), (width, height), spare, kind.projection)
    drawn = [kind.draw(panel, field, scale) for panel, field in zip(axes, fields, strict=True)]
    if kind.projection is None:
        for panel, field in zip(axes, fields, strict=True):
            frame(panel, field)
    if kind.colours:
        panels.bar(figure, axes, kind.colours(scale), scale, fields[0].quantity.label)
    facts = [*labels.scale_facts(fields, scale), *([] if kind.colours else labels.cut_facts(scale))]
    shown = [[field] for field in fields]
    panels.write(figure, axes, _texts(shown, wish, facts))
    panels.settle(figure, drawn)
    for panel, picture in zip(axes, drawn, strict=True):
        if kind.label:
            kind.label(panel, picture)
    return figure


def _lines(surfaces: Sequence[Surface], wish: Wish) -> Figure:
    shown = [[field_of(surface, metric) for metric in _metrics(surface, wish)] for surface in surfaces]
    sides = line.sides_of(shown, wish)
    figure, axes = panels.panels(len(shown), style.LINE_PANEL, 0, None)
    for panel, fields in zip(axes, shown, strict=True):
        line.draw(panel, fields, sides)
    panels.write(figure, axes, _texts(shown, wish, []))
    panels.settle(figure, [])
    return figure


def _metrics(surface: Surface, wish: Wish) -> list[str | None]:
    """Return what to draw along a line: as wished, else every loss and accuracy."""
    if wish.metric:
        return [wish.metric]
    shown = [name for name in surface.metrics if is_loss(name) or is_accuracy(name)]
    return [*sorted(shown, key=lambda name: not name.startswith("train"))] or [None]


def _panel_size(field: Field, kind: Kind) -> tuple[float, float]:
    """Return width and height of a panel in inches; equal aspects decide the height."""
    if kind.projection:
        return style.RELIEF_PANEL
    width, rest = style.PLANE_PANEL
    ranges = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    return width, rest + (width * ranges[1] / ranges[0] if alike(*ranges) else 0.8 * width)


def _texts(shown: Sequence[Sequence[Field]], wish: Wish, more: Sequence[str]) -> panels.Texts:
    """Return titles and facts: those that hold for all panels go into the caption."""
    titles = labels.panel_titles([fields[0] for fields in shown])
    each = [labels.facts(fields) for fields in shown]
    shared = labels.shared(each)
    own = [[fact for fact in facts if fact not in shared] for facts in each]
    return panels.Texts(titles, own, [*shared, *more], wish.title and labels.checked(wish.title))
