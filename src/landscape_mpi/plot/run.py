"""The options of landscape-plot -> image files; knows the order of the steps, each of which lives elsewhere."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape_mpi.plot.compose import compose
from landscape_mpi.plot.field import default_metric
from landscape_mpi.plot.kinds import LINE, kind_of
from landscape_mpi.plot.levels import parse_levels
from landscape_mpi.plot.save import check_target, save
from landscape_mpi.plot.wish import Wish
from landscape_mpi.surface.read import Surface, read_surface


def draw(options: argparse.Namespace) -> list[Path]:
    """Draw what the options say; return the files written.

    Raises:
        UserError: a surface cannot be read or drawn as asked, or a file cannot be written.
    """
    for path in options.output or []:
        check_target(path)
    surfaces = [read_surface(path) for path in options.surface]
    wish = Wish(
        kind=options.kind,
        metric=options.metric,
        log=options.log,
        levels=None if options.levels is None else parse_levels(options.levels),
        low=options.vmin,
        high=options.vmax,
        title=options.title,
    )
    targets = options.output or [_default_target(surfaces, wish)]
    figure = compose(surfaces, wish)
    for path in targets:
        save(figure, path)
    return targets


def _default_target(surfaces: Sequence[Surface], wish: Wish) -> Path:
    """Return NAME_METRIC_KIND.png next to the first surface; a line shows all its metrics and names none."""
    kind = kind_of(surfaces, wish.kind)
    metric = wish.metric or (None if kind == LINE else default_metric(surfaces[0]))
    first, *others = surfaces
    name = first.path.stem + (f"+{len(others)}" if len(others) > 1 else "".join(f"+{s.path.stem}" for s in others))
    return first.path.with_name("_".join(part for part in (name, metric, kind) if part) + ".png")
