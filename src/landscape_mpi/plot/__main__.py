"""Runs the command landscape-plot: surfaces or training histories in, figures out; never imports torch or MPI."""

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from landscape_mpi import __version__
from landscape_mpi.errors import Exit, Flag, UserError, out_of_memory
from landscape_mpi.log import check_answered, console, report, say, shield
from landscape_mpi.plot.options import HISTORY_KINDS, KINDS


class _Parser(argparse.ArgumentParser):
    """Reports a mistake like every other one: a sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError("", message, remedy=(f"see {self.prog} ", Flag("help")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run landscape-plot; return its exit code."""
    shield()
    with console(of_command=True):
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        try:
            parsed = build_parser().parse_args(arguments)
        except SystemExit:  # of --help and --version
            check_answered()
            raise
        from landscape_mpi.plot.run import draw  # not before: a page of help needs no matplotlib

        for path in draw(parsed):
            report(str(path))
    except (UserError, MemoryError) as error:
        say(f"landscape-plot: {out_of_memory(error) if isinstance(error, MemoryError) else error}", logging.ERROR)
        return Exit.USER
    except KeyboardInterrupt:
        say("landscape-plot: interrupted; run the same command again to draw.")
        return Exit.RUN_AGAIN
    return Exit.COMPLETE


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of landscape-plot."""
    parser = _Parser(
        prog="landscape-plot",
        description="Draw surfaces of landscape_mpi or of other tools (docs/formats.md), or training histories, as "
        "figures for a paper.",
        epilog="Several surfaces become the panels of one figure, on one scale; lines of one job along several random "
        "directions (plane.repeats) become one band, and the steepest ascent of the same network (plane.kind: worst) "
        "is drawn over it. Write negative numbers with an equals sign: --levels=-1:1:0.25.",
    )
    parser.add_argument("surface", nargs="+", type=Path, help="surface.h5, finished or not; or history.h5 of train")
    parser.add_argument(
        "--kind",
        choices=KINDS + HISTORY_KINDS,
        help="default: contour, or line where there is no beta; for histories training. density draws the eigenvalues "
        "of metrics: [loss, spectrum], render a landscape lit by sun and sky, as for a cover",
    )
    parser.add_argument("--metric", help="default: train_loss; on a line every loss and accuracy")
    parser.add_argument(
        "--at",
        metavar="gamma=VALUE",
        help="for volumes: the plane at the nearest gamma of the grid; default: that nearest to 0",
    )
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--log", action="store_true", default=None, help="logarithmic colours and heights")
    scale.add_argument("--linear", action="store_false", dest="log", help="linear colours and heights")
    parser.add_argument("--levels", metavar="FIRST:LAST:STEP", help="contour levels; also as a list: 0.1,1,10")
    parser.add_argument("--vmin", type=_finite, metavar="VALUE", help="the lower end of the colour scale")
    parser.add_argument("--vmax", type=_finite, metavar="VALUE", help="the upper end of the colour scale")
    parser.add_argument(
        "--bandwidth",
        type=_finite,
        metavar="VALUE",
        help="for --kind density: the standard deviation of the Gaussian that each node of a spectrum is drawn as; "
        "default: a 200th of the range of the eigenvalues",
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        help="for --kind render: square, wide or WIDTHxHEIGHT in pixels; default: 1600x1200, of several 1100x900 each",
    )
    parser.add_argument(
        "--view",
        metavar="AZIMUTH,ELEVATION",
        help="for --kind render: where the camera stands, in degrees from alpha towards beta and above the horizon; "
        "default: 302,31",
    )
    parser.add_argument("--title", help="replaces the title")
    parser.add_argument(
        "--caption",
        action="append",
        metavar="TEXT",
        help="replaces the title of a panel, frame or surface, or the name of a history; once for each, in order",
    )
    parser.add_argument(
        "--trajectory",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="the path of a training run, projected by tomgoldstein/loss-landscape; several on one surface, or one "
        "for each of several",
    )
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        type=Path,
        metavar="FILE",
        help=".png, .pdf or .svg; may be given several times; default: NAME_METRIC_KIND.png beside the surface",
    )
    parser.add_argument(
        "--vtk", type=Path, metavar="FILE.vts", help="write the surface for ParaView instead of a figure"
    )
    parser.add_argument(
        "--movie",
        type=Path,
        metavar="FILM",
        help="film.gif or film.mp4 instead of a figure: one frame per surface, or per gamma of a volume",
    )
    parser.add_argument("--fps", type=_rate, metavar="N", help="frames per second of the film, default: 4")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="PAGE",
        help="write one web page instead of figures, to turn, zoom and slice the surfaces on; it works offline",
    )
    parser.add_argument("--version", action="version", version=f"landscape_mpi {__version__}")
    return parser


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a finite number")
    return value


def _rate(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 50:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected 1 to 50 frames per second")
    return value


if __name__ == "__main__":
    sys.exit(main())
