"""Runs landscape-plot, and plots from notebooks: the steps from surfaces to a figure, film, ParaView grid or page."""

import argparse
import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.plot.field import default_metric, read_given, sliced
from landscape_mpi.plot.figure import LINE, compose, kind_of
from landscape_mpi.plot.film import DEFAULT_FPS, FORMATS, check_format, compose_film, save_film
from landscape_mpi.plot.history import DEFAULT, are_histories, compose_histories, read_histories
from landscape_mpi.plot.options import Options, parse_at, parse_levels
from landscape_mpi.plot.page.build import PAGE_ENDINGS, content, html
from landscape_mpi.plot.save import check_target, image_of, save, write
from landscape_mpi.plot.scale import as_usual
from landscape_mpi.plot.vtk import check_vtk, write_grid
from landscape_mpi.surface.read import Surface

__all__ = ["Figure", "draw", "draw_inline"]

HISTORY = "history.h5"
INLINE_DPI = 130
"""Of a picture within a notebook: as large as its text can be read."""


def draw(arguments: argparse.Namespace) -> list[Path]:
    """Draw what the arguments of landscape-plot say; return the files written.

    Raises:
        UserError: a file cannot be read or drawn as asked, or a file cannot be written.
    """
    sorts = {"-o": arguments.output, "--vtk": arguments.vtk, "--movie": arguments.movie, "--html": arguments.html}
    named = [flag for flag, path in sorts.items() if path]
    if len(named) > 1:  # each sort of file takes arguments that the others have no use for
        raise UserError(", ".join(named), "expected one of them", remedy="run landscape-plot once for each")
    if arguments.fps is not None and not arguments.movie:
        raise UserError(Flag("fps"), "is for films", expected=(Flag("movie"), " as well"))
    if arguments.html:
        return [_page(arguments)]
    if arguments.vtk:
        check_vtk(arguments)
        surfaces = read_given(arguments.surface, arguments.trajectory)
        (surface,) = surfaces if arguments.at is None else _planes(arguments, surfaces)
        return write_grid(surface, _options(arguments), arguments.vtk)
    if arguments.movie:
        return [_film(arguments)]
    return _figures(arguments)


def draw_inline(surfaces: Sequence[Surface], options: Options, output: str | Path | None = None) -> Figure:
    """Return a figure that notebooks and galleries show by themselves, and write it where that is asked for.

    Raises:
        UserError: the options do not suit the surfaces, or the file cannot be written.
    """
    if output is not None:
        check_target(Path(output))
    surfaces = sliced(surfaces, None)
    figure = compose(surfaces, as_usual(options, surfaces))
    if output is not None:
        save(figure, Path(output))

    def as_html() -> str:
        picture = base64.b64encode(image_of(figure, ".png", INLINE_DPI)).decode()
        width = round(float(figure.get_figwidth()) * 100)
        titles = ", ".join(axes.get_title() for axes in figure.axes if axes.get_title())
        words = titles.translate(str.maketrans('"<>&\n', "'()+ "))
        return f'<img src="data:image/png;base64,{picture}" width="{width}" alt="{words}">'

    # of a figure that pyplot does not know, notebooks would show no more than its size
    vars(figure)["_repr_html_"] = as_html
    return figure


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


def _figures(arguments: argparse.Namespace) -> list[Path]:
    """Write one figure, under each name that was given or under its own."""
    for path in arguments.output or []:
        check_target(path)
    options = _options(arguments)
    if are_histories(arguments.surface, options.kind):
        for flag, given in (("trajectory", arguments.trajectory), ("at", arguments.at)):
            if given:
                raise UserError(Flag(flag), f"{arguments.surface[0]} is a training history", expected="surfaces")
        figure = compose_histories(read_histories(arguments.surface), options)
        default = _beside(arguments.surface, options.kind or DEFAULT)
    else:
        surfaces = _planes(arguments, read_given(arguments.surface, arguments.trajectory))
        options = as_usual(options, surfaces)
        figure = compose(surfaces, options)
        kind = kind_of(surfaces, options.kind)
        # a line shows all its metrics and names none
        metric = options.metric or (None if kind == LINE else default_metric(surfaces[0]))
        at = [f"gamma{surface.gamma:g}" for surface in surfaces if surface.gamma is not None][:1]
        default = _beside([surface.path for surface in surfaces], *at, *filter(None, (metric, kind)))
    targets = arguments.output or [default]
    for path in targets:
        save(figure, path)
    return targets


def _film(arguments: argparse.Namespace) -> Path:
    """Write a film of the surfaces, or of a volume's planes along gamma; return its path."""
    check_target(arguments.movie, FORMATS, Flag("movie"))
    check_format(arguments.movie)
    options = _options(arguments)
    surfaces = _surfaces(arguments, Flag("movie"))
    if len(surfaces) == 1 and surfaces[0].kind == "volume" and arguments.at is None:
        surfaces = along_gamma(surfaces[0])
    else:
        surfaces = _planes(arguments, surfaces)
    save_film(compose_film(surfaces, as_usual(options, surfaces)), arguments.movie, arguments.fps or DEFAULT_FPS)
    return Path(arguments.movie)


def along_gamma(volume: Surface) -> list[Surface]:
    """Return the planes of a volume that have a point that is done, in ascending order of gamma; all, if none has."""
    every = [volume.at(gamma) for gamma in np.sort(volume.axes[2])]
    return [plane for plane in every if plane.done] or every


def _page(arguments: argparse.Namespace) -> Path:
    """Write one web page with everything that can be chosen on it; return its path."""
    for flag, value in (("kind", arguments.kind), ("levels", arguments.levels)):
        if value:
            raise UserError(
                Flag(flag), (Flag("html"), " writes a page, which has no use for it"), remedy="leave one of the two out"
            )
    check_target(arguments.html, PAGE_ENDINGS, Flag("html"))
    surfaces = _surfaces(arguments, Flag("html"))
    if arguments.at is not None or len({surface.kind for surface in surfaces}) > 1:
        surfaces = _planes(arguments, surfaces)  # beside planes a volume shows one of its own
    text = html(content(surfaces, _options(arguments)))
    write(arguments.html, text.encode(), Flag("html"))
    return Path(arguments.html)


def _planes(arguments: argparse.Namespace, surfaces: Sequence[Surface]) -> list[Surface]:
    """Return the plane of each volume that is asked for; other surfaces stay as they are."""
    return sliced(surfaces, None if arguments.at is None else parse_at(arguments.at))


def _surfaces(arguments: argparse.Namespace, flag: Flag) -> list[Surface]:
    """Read the surfaces for a flag that has no use for training histories."""
    if are_histories(arguments.surface, arguments.kind):
        raise UserError(flag, f"{arguments.surface[0]} is a training history", expected="surfaces")
    return read_given(arguments.surface, arguments.trajectory)


def _beside(paths: Sequence[Path], *parts: str) -> Path:
    """Return the path of a figure beside the first of some files, which says how many there are."""
    # every history of `train` is called history.h5: its folder tells it apart
    called = [path.resolve().parent.name or path.stem if path.name == HISTORY else path.stem for path in paths]
    first, *others = called
    name = paths[0].stem
    if others:
        name = first + (f"+{len(others)}" if len(others) > 1 else f"+{others[0]}")
    return paths[0].with_name("_".join((name, *parts)) + ".png")
