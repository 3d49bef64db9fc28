"""The options of landscape-plot -> files; knows the order of the steps, each of which lives elsewhere."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.plot.compose import compose
from landscape_mpi.plot.curvature import as_usual
from landscape_mpi.plot.field import default_metric
from landscape_mpi.plot.film import compose_film
from landscape_mpi.plot.given import read_given
from landscape_mpi.plot.histories import DEFAULT, are_histories, compose_histories
from landscape_mpi.plot.history import read_histories
from landscape_mpi.plot.kinds import LINE, kind_of
from landscape_mpi.plot.levels import parse_levels
from landscape_mpi.plot.movie import DEFAULT_FPS, FORMATS, check_format, save_film
from landscape_mpi.plot.save import check_target, save
from landscape_mpi.plot.vtk import check_vtk, write_grid
from landscape_mpi.plot.wish import Wish
from landscape_mpi.surface.read import Surface


def draw(options: argparse.Namespace) -> list[Path]:
    """Draw what the options say; return the files written.

    Raises:
        UserError: a file cannot be read or drawn as asked, or a file cannot be written.
    """
    if options.vtk:
        return _grid(options)
    if options.movie:
        return [_movie(options)]
    if options.fps is not None:
        raise UserError("--fps: is for films; expected --movie as well.")
    return _figures(options)


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
    if options.output:
        raise UserError("-o: --movie writes a film and no figure; leave one of the two out.")
    check_target(options.movie, FORMATS, "--movie")
    check_format(options.movie)
    wish = _wish(options)
    if are_histories(options.surface, wish.kind):
        raise UserError(f"--movie: {options.surface[0]} is a training history; expected surfaces.")
    surfaces = read_given(options.surface, options.trajectory)
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


def _default_target(surfaces: Sequence[Surface], wish: Wish) -> Path:
    """Return NAME_METRIC_KIND.png beside the first surface; a line shows all its metrics and names none."""
    kind = kind_of(surfaces, wish.kind)
    metric = wish.metric or (None if kind == LINE else default_metric(surfaces[0]))
    return _beside([surface.path for surface in surfaces], *filter(None, (metric, kind)))


def _beside(paths: Sequence[Path], *parts: str) -> Path:
    """Return the path of a figure beside the first of some files, which says how many there are."""
    first, *others = paths
    name = first.stem + (f"+{len(others)}" if len(others) > 1 else "".join(f"+{path.stem}" for path in others))
    return first.with_name("_".join((name, *parts)) + ".png")
