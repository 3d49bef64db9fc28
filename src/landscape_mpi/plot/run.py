"""The options of landscape-plot -> files; knows the order of the steps, each of which lives elsewhere."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.plot.compose import compose
from landscape_mpi.plot.curvature import as_usual
from landscape_mpi.plot.field import default_metric
from landscape_mpi.plot.film import compose_film
from landscape_mpi.plot.histories import DEFAULT, are_histories, compose_histories
from landscape_mpi.plot.history import read_histories
from landscape_mpi.plot.inputs import read_given
from landscape_mpi.plot.kinds import LINE, kind_of
from landscape_mpi.plot.levels import parse_levels
from landscape_mpi.plot.movie import DEFAULT_FPS, FORMATS, check_format, save_film
from landscape_mpi.plot.options import Wish
from landscape_mpi.plot.page.build import PAGE_ENDINGS, html
from landscape_mpi.plot.page.content import content
from landscape_mpi.plot.save import check_target, save, write
from landscape_mpi.plot.vtk import check_vtk, write_grid
from landscape_mpi.surface.read import Surface

HISTORY = "history.h5"


def draw(options: argparse.Namespace) -> list[Path]:
    """Draw what the options say; return the files written.

    Raises:
        UserError: a file cannot be read or drawn as asked, or a file cannot be written.
    """
    _check_targets(options)
    if options.html:
        return [_page(options)]
    if options.vtk:
        return _grid(options)
    if options.movie:
        return [_movie(options)]
    return _figures(options)


def _check_targets(options: argparse.Namespace) -> None:
    """Refuse to write files of two sorts at once: each sort takes options that the others have no use for."""
    sorts = {"-o": options.output, "--vtk": options.vtk, "--movie": options.movie, "--html": options.html}
    named = [flag for flag, path in sorts.items() if path]
    if len(named) > 1:
        raise UserError(f"{', '.join(named)}: expected one of them; run landscape-plot once for each.")
    if options.fps is not None and not options.movie:
        raise UserError("--fps: is for films; expected --movie as well.")


def _figures(options: argparse.Namespace) -> list[Path]:
    for path in options.output or []:
        check_target(path)
    wish = _wish(options)
    if are_histories(options.surface, wish.kind):
        _without_paths(options)
        figure = compose_histories(read_histories(options.surface), wish)
        default = _beside(options.surface, wish.kind or DEFAULT)
    else:
        surfaces = read_given(options.surface, options.trajectory)
        wish = as_usual(wish, surfaces)
        figure = compose(surfaces, wish)
        default = _default_target(surfaces, wish)
    targets = options.output or [default]
    for path in targets:
        save(figure, path)
    return targets


def _without_paths(options: argparse.Namespace) -> None:
    if options.trajectory:
        raise UserError(f"--trajectory: {options.surface[0]} is a training history; expected surfaces.")


def _grid(options: argparse.Namespace) -> list[Path]:
    """Write a grid for ParaView, and the path on it if there is one; return the files."""
    check_vtk(options)
    (surface,) = read_given(options.surface, options.trajectory)
    return write_grid(surface, _wish(options), options.vtk)


def _movie(options: argparse.Namespace) -> Path:
    """Write a film of the surfaces; return its path."""
    check_target(options.movie, FORMATS, "--movie")
    check_format(options.movie)
    wish = _wish(options)
    surfaces = _surfaces(options, "--movie")
    film = compose_film(surfaces, as_usual(wish, surfaces))
    save_film(film, options.movie, options.fps or DEFAULT_FPS)
    return Path(options.movie)


def _wish(options: argparse.Namespace) -> Wish:
    return Wish(
        kind=options.kind,
        metric=options.metric,
        log=options.log,
        levels=None if options.levels is None else parse_levels(options.levels),
        low=options.vmin,
        high=options.vmax,
        title=options.title,
        captions=tuple(options.caption or ()),
    )


def _page(options: argparse.Namespace) -> Path:
    """Write one web page with everything that can be chosen on it; return its path."""
    for flag, value in (("--kind", options.kind), ("--levels", options.levels)):
        if value:
            raise UserError(f"{flag}: --html writes a page, which has no use for it; leave one of the two out.")
    check_target(options.html, PAGE_ENDINGS, "--html")
    text = html(content(_surfaces(options, "--html"), _wish(options)))
    write(options.html, text.encode(), "--html")
    return Path(options.html)


def _surfaces(options: argparse.Namespace, flag: str) -> list[Surface]:
    """Read the surfaces for a flag that has no use for training histories."""
    if are_histories(options.surface, options.kind):
        raise UserError(f"{flag}: {options.surface[0]} is a training history; expected surfaces.")
    return read_given(options.surface, options.trajectory)


def _default_target(surfaces: Sequence[Surface], wish: Wish) -> Path:
    """Return NAME_METRIC_KIND.png beside the first surface; a line shows all its metrics and names none."""
    kind = kind_of(surfaces, wish.kind)
    metric = wish.metric or (None if kind == LINE else default_metric(surfaces[0]))
    return _beside([surface.path for surface in surfaces], *filter(None, (metric, kind)))


def _called(path: Path) -> str:
    """Return what tells a file apart from others: every history of `train` is called history.h5."""
    return path.resolve().parent.name or path.stem if path.name == HISTORY else path.stem


def _beside(paths: Sequence[Path], *parts: str) -> Path:
    """Return the path of a figure beside the first of some files, which says how many there are."""
    first, *others = paths
    name = first.stem
    if others:
        name = _called(first) + (f"+{len(others)}" if len(others) > 1 else f"+{_called(others[0])}")
    return first.with_name("_".join((name, *parts)) + ".png")
