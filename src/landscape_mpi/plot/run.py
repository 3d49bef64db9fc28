"""The arguments of landscape-plot -> files; knows the order of the steps, each of which lives elsewhere."""

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
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page.build import PAGE_ENDINGS, html
from landscape_mpi.plot.page.content import content
from landscape_mpi.plot.save import check_target, save, write
from landscape_mpi.plot.vtk import check_vtk, write_grid
from landscape_mpi.surface.read import Surface

HISTORY = "history.h5"


def draw(arguments: argparse.Namespace) -> list[Path]:
    """Draw what the arguments say; return the files written.

    Raises:
        UserError: a file cannot be read or drawn as asked, or a file cannot be written.
    """
    _check_targets(arguments)
    if arguments.html:
        return [_page(arguments)]
    if arguments.vtk:
        return _grid(arguments)
    if arguments.movie:
        return [_movie(arguments)]
    return _figures(arguments)


def _check_targets(arguments: argparse.Namespace) -> None:
    """Refuse to write files of two sorts at once: each sort takes arguments that the others have no use for."""
    sorts = {"-o": arguments.output, "--vtk": arguments.vtk, "--movie": arguments.movie, "--html": arguments.html}
    named = [flag for flag, path in sorts.items() if path]
    if len(named) > 1:
        raise UserError(f"{', '.join(named)}: expected one of them; run landscape-plot once for each.")
    if arguments.fps is not None and not arguments.movie:
        raise UserError("--fps: is for films; expected --movie as well.")


def _figures(arguments: argparse.Namespace) -> list[Path]:
    for path in arguments.output or []:
        check_target(path)
    options = _options(arguments)
    if are_histories(arguments.surface, options.kind):
        _without_paths(arguments)
        figure = compose_histories(read_histories(arguments.surface), options)
        default = _beside(arguments.surface, options.kind or DEFAULT)
    else:
        surfaces = read_given(arguments.surface, arguments.trajectory)
        options = as_usual(options, surfaces)
        figure = compose(surfaces, options)
        default = _default_target(surfaces, options)
    targets = arguments.output or [default]
    for path in targets:
        save(figure, path)
    return targets


def _without_paths(arguments: argparse.Namespace) -> None:
    if arguments.trajectory:
        raise UserError(f"--trajectory: {arguments.surface[0]} is a training history; expected surfaces.")


def _grid(arguments: argparse.Namespace) -> list[Path]:
    """Write a grid for ParaView, and the path on it if there is one; return the files."""
    check_vtk(arguments)
    (surface,) = read_given(arguments.surface, arguments.trajectory)
    return write_grid(surface, _options(arguments), arguments.vtk)


def _movie(arguments: argparse.Namespace) -> Path:
    """Write a film of the surfaces; return its path."""
    check_target(arguments.movie, FORMATS, "--movie")
    check_format(arguments.movie)
    options = _options(arguments)
    surfaces = _surfaces(arguments, "--movie")
    film = compose_film(surfaces, as_usual(options, surfaces))
    save_film(film, arguments.movie, arguments.fps or DEFAULT_FPS)
    return Path(arguments.movie)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        kind=arguments.kind,
        metric=arguments.metric,
        log=arguments.log,
        levels=None if arguments.levels is None else parse_levels(arguments.levels),
        low=arguments.vmin,
        high=arguments.vmax,
        title=arguments.title,
        captions=tuple(arguments.caption or ()),
    )


def _page(arguments: argparse.Namespace) -> Path:
    """Write one web page with everything that can be chosen on it; return its path."""
    for flag, value in (("--kind", arguments.kind), ("--levels", arguments.levels)):
        if value:
            raise UserError(f"{flag}: --html writes a page, which has no use for it; leave one of the two out.")
    check_target(arguments.html, PAGE_ENDINGS, "--html")
    text = html(content(_surfaces(arguments, "--html"), _options(arguments)))
    write(arguments.html, text.encode(), "--html")
    return Path(arguments.html)


def _surfaces(arguments: argparse.Namespace, flag: str) -> list[Surface]:
    """Read the surfaces for a flag that has no use for training histories."""
    if are_histories(arguments.surface, arguments.kind):
        raise UserError(f"{flag}: {arguments.surface[0]} is a training history; expected surfaces.")
    return read_given(arguments.surface, arguments.trajectory)


def _default_target(surfaces: Sequence[Surface], options: Options) -> Path:
    """Return NAME_METRIC_KIND.png beside the first surface; a line shows all its metrics and names none."""
    kind = kind_of(surfaces, options.kind)
    metric = options.metric or (None if kind == LINE else default_metric(surfaces[0]))
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
