"""The command landscape-plot: surface files in, figures out; never imports torch or MPI."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from landscape_mpi import __version__
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.plot.compose import compose
from landscape_mpi.plot.field import default_metric
from landscape_mpi.plot.kinds import LINE, NAMES, kind_of
from landscape_mpi.plot.levels import parse_levels
from landscape_mpi.plot.save import check_target, save
from landscape_mpi.plot.wish import Wish
from landscape_mpi.surface.read import Surface, read_surface


class _Parser(argparse.ArgumentParser):
    """Reports a mistake like every other one: a sentence, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run landscape-plot; return its exit code."""
    try:
        for path in _run(_parser().parse_args(arguments)):
            print(path)  # noqa: T201 - what was written is the command's output
    except UserError as error:
        print(f"landscape-plot: {error}", file=sys.stderr)  # noqa: T201
        return Exit.USER
    return Exit.COMPLETE


def _run(options: argparse.Namespace) -> list[Path]:
    """Draw what the options say; return the files written."""
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="landscape-plot",
        description="Draw surfaces of landscape_mpi or tomgoldstein/loss-landscape as figures for a paper.",
        epilog="Several surfaces become the panels of one figure, on one scale. Write negative numbers with an "
        "equals sign: --levels=-1:1:0.25.",
    )
    parser.add_argument("surface", nargs="+", type=Path, help="surface.h5, finished or not")
    parser.add_argument("--kind", choices=NAMES, help="default: contour, or line where there is no beta")
    parser.add_argument("--metric", help="default: train_loss; on a line every loss and accuracy")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--log", action="store_true", default=None, help="logarithmic colours and heights")
    scale.add_argument("--linear", action="store_false", dest="log", help="linear colours and heights")
    parser.add_argument("--levels", metavar="FIRST:LAST:STEP", help="contour levels; also as a list: 0.1,1,10")
    parser.add_argument("--vmin", type=_finite, metavar="VALUE", help="the lower end of the colour scale")
    parser.add_argument("--vmax", type=_finite, metavar="VALUE", help="the upper end of the colour scale")
    parser.add_argument("--title", help="replaces the title")
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        type=Path,
        metavar="FILE",
        help=".png, .pdf or .svg; may be given several times; default: NAME_METRIC_KIND.png beside the surface",
    )
    parser.add_argument("--version", action="version", version=f"landscape_mpi {__version__}")
    return parser


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a finite number")
    return value


if __name__ == "__main__":
    sys.exit(main())
