"""Runs landscape-plot, and plots from notebooks: the steps from surfaces to a figure, film, ParaView grid or page."""

import argparse
import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from landscape_mpi.errors import Either, Flag, Text, UserError
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.files.paths import check_target
from landscape_mpi.plot.field import default_metric
from landscape_mpi.plot.figure import PLANES, compose, kind_of
from landscape_mpi.plot.film import DEFAULT_FPS, FORMATS, check_format, compose_film, save_film
from landscape_mpi.plot.history import DEFAULT, are_histories, compose_histories, read_histories
from landscape_mpi.plot.options import Options, parse_at, parse_levels, parse_size, parse_view
from landscape_mpi.plot.page import PAGE_ENDINGS, content, html
from landscape_mpi.plot.render import KIND as RENDER
from landscape_mpi.plot.scale import as_usual
from landscape_mpi.plot.style import RC
from landscape_mpi.plot.vtk import check_vtk, write_grid
from landscape_mpi.surface.foreign.loss_landscape import read_projection
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.training import joined

__all__ = ["Figure", "draw", "draw_inline"]

HISTORY = "history.h5"
# The date is left out, so that the same surface always gives the same file.
_FORMATS: Mapping[str, Any] = {
    ".png": {"dpi": 200},
    ".pdf": {"dpi": 300, "metadata": {"CreationDate": None}},
    ".svg": {"dpi": 300, "metadata": {"Date": None}},
}
OUTPUT = Either("-o", python="output")
INLINE_DPI = 130
"""Pixels per inch of a picture within a notebook: large enough for its text to be read."""


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
        _check_output(Path(output))
    surfaces = sliced(surfaces, None)
    figure = compose(surfaces, as_usual(options, surfaces))
    if output is not None:
        save(figure, Path(output))
    return inline(figure)


def inline(figure: Figure) -> Figure:
    """Return a figure that notebooks show as a picture, in the state that it has when it is shown."""

    def as_html() -> str:
        picture = base64.b64encode(image_of(figure, ".png", INLINE_DPI)).decode()
        width = round(float(figure.get_figwidth()) * 100)
        titles = ", ".join(axes.get_title() for axes in figure.axes if axes.get_title())
        words = titles.translate(str.maketrans('"<>&\n', "'()+ "))
        return f'<img src="data:image/png;base64,{picture}" width="{width}" alt="{words}">'

    # notebooks would show only the size of a figure that pyplot does not know
    vars(figure)["_repr_html_"] = as_html
    return figure


def _options(arguments: argparse.Namespace) -> Options:
    if arguments.trajectory and arguments.kind == RENDER:
        drawn = Flag("kind", (RENDER,)), " draws no path"
        raise UserError(Flag("trajectory"), drawn, expected=Flag("kind", ("surface",)))
    return Options(
        kind=arguments.kind,
        metric=arguments.metric,
        log=arguments.log,
        levels=None if arguments.levels is None else parse_levels(arguments.levels),
        low=arguments.vmin,
        high=arguments.vmax,
        title=arguments.title,
        captions=tuple(arguments.caption or ()),
        bandwidth=arguments.bandwidth,
        size=None if arguments.size is None else parse_size(arguments.size),
        view=None if arguments.view is None else parse_view(arguments.view),
    )


def _figures(arguments: argparse.Namespace) -> list[Path]:
    """Write one figure, under each name that was given or under its own."""
    for path in arguments.output or []:
        _check_output(path)
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
        # a line shows all its metrics, so the name has none; a density has no metric
        metric = options.metric or (default_metric(surfaces[0]) if kind in (*PLANES, RENDER) else None)
        at = [f"gamma{surface.gamma:g}" for surface in surfaces if surface.gamma is not None][:1]
        default = _beside([surface.path for surface in surfaces], *at, *filter(None, (metric, kind)))
    targets = arguments.output or [default]
    for path in targets:
        save(figure, path)
    return targets


def _film(arguments: argparse.Namespace) -> Path:
    """Write a film of the surfaces, or of a volume's planes along gamma; return its path."""
    _check_output(arguments.movie, FORMATS, Flag("movie"))
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
    """Return the planes of a volume with at least one done point, in ascending order of gamma; all, if none has one."""
    every = [volume.at(gamma) for gamma in np.sort(volume.axes[2])]
    return [plane for plane in every if plane.done] or every


def _page(arguments: argparse.Namespace) -> Path:
    """Write one web page with everything that can be chosen on it; return its path."""
    for flag, value in (("kind", arguments.kind), ("levels", arguments.levels)):
        if value:
            raise UserError(
                Flag(flag), (Flag("html"), " writes a page, which has no use for it"), remedy="leave one of the two out"
            )
    _check_output(arguments.html, PAGE_ENDINGS, Flag("html"))
    surfaces = _surfaces(arguments, Flag("html"))
    if arguments.at is not None or len({surface.kind for surface in surfaces}) > 1:
        surfaces = _planes(arguments, surfaces)  # beside planes, a volume shows one of its planes
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
    """Return the path of a figure beside the first of some files; its name says how many files there are."""
    # every history of `train` is called history.h5: its folder tells it apart
    called = [path.resolve().parent.name or path.stem if path.name == HISTORY else path.stem for path in paths]
    first, *others = called
    name = paths[0].stem
    if others:
        name = first + (f"+{len(others)}" if len(others) > 1 else f"+{others[0]}")
    return paths[0].with_name("_".join((name, *parts)) + ".png")


def sliced(surfaces: Sequence[Surface], gamma: float | None) -> list[Surface]:
    """Return the plane of each volume that is nearest to `gamma`; None is for the gamma nearest to 0.

    Other surfaces stay as they are.

    Raises:
        UserError: there is a gamma, and a surface is no volume or does not reach that far.
    """
    planes = []
    for surface in surfaces:
        if surface.kind != "volume":
            if gamma is not None:
                raise UserError(Flag("at"), f"{surface.path} is a {surface.kind}", expected="a volume")
            planes.append(surface)
            continue
        low, high = float(surface.axes[2].min()), float(surface.axes[2].max())
        if gamma is not None and not low <= gamma <= high:
            raise UserError(Flag("at"), f"{surface.path}: found gamma = {gamma:g}", expected=f"{low:g} to {high:g}")
        planes.append(surface.at(min(max(gamma or 0.0, low), high)))
    return planes


def read_given(paths: Sequence[Path], projections: Sequence[Path]) -> list[Surface]:
    """Read surfaces; projections, where there are any, take the place of the paths that the surfaces have.

    One surface takes any number of projections, each as a run of its own. Several surfaces take one projection each.

    Raises:
        UserError: a file cannot be read, there are not as many projections as surfaces, or one is for no plane.
    """
    surfaces = [read_surface(path) for path in paths]
    if not projections:
        return surfaces
    if len(surfaces) > 1 and len(projections) != len(surfaces):
        raise UserError(
            Flag("trajectory"),
            f"found {len(projections)} of them for {len(surfaces)} surfaces",
            expected="one each, in the same order",
        )
    groups = [projections] if len(surfaces) == 1 else [[projection] for projection in projections]
    drawn = []
    for surface, files in zip(surfaces, groups, strict=True):
        if surface.kind != "plane":
            raise UserError(
                Flag("trajectory"),
                f"{surface.path} is a {surface.kind}",
                expected="a plane, on which a path can be drawn",
            )
        runs = [read_projection(file) for file in files]
        run = runs[0] if len(runs) == 1 else joined(runs, [file.stem for file in files])
        drawn.append(replace(surface, trajectory=run))
    return drawn


def _check_output(path: Path, endings: Iterable[str] = _FORMATS, flag: Text = OUTPUT) -> None:
    """Refuse a path that nothing can be written to, before any work is done.

    Raises:
        UserError: its ending is none of those of the flag, or its folder does not exist.
    """
    if path.suffix.lower() not in endings:
        found = f"the ending {path.suffix!r}" if path.suffix else "no ending"
        raise UserError(flag, f"{path}: found {found}", expected=f"one of {', '.join(endings)}")
    check_target(path, flag)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names; a failed write leaves the file that was there.

    Raises:
        UserError: the file cannot be written.
    """
    write(path, image_of(figure, path.suffix.lower()))


def image_of(figure: Figure, ending: str, dpi: float | None = None) -> bytes:
    """Return a figure as the bytes of a file of a format; `dpi`, pixels per inch, replaces that of files."""
    image, settings = BytesIO(), {**_FORMATS[ending], **({} if dpi is None else {"dpi": dpi})}
    if ending == ".png" and figure.get_label():
        settings["metadata"] = {"Description": str(figure.get_label())}
    with mpl.rc_context(RC):
        figure.savefig(image, format=ending[1:], **settings)
    return image.getvalue()


def write(path: Path, data: bytes, flag: Text = OUTPUT) -> None:
    """Write the bytes of a file that a flag asked for; an existing file is replaced completely or stays as it is.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with atomic_write(path) as aside:
            aside.write_bytes(data)
    except OSError as error:
        raise UserError(
            flag, f"{path}: cannot be written ({error.strerror})", remedy=("choose another place with ", flag)
        ) from error
