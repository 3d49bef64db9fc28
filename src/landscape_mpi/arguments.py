"""Defines the commands of the command line and the arguments of each; imports nothing that takes time."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from landscape_mpi import __version__
from landscape_mpi.log import answer

MOST_PORTS = 65_535
_JOB = "the job file"
_SURFACE = "a surface file, finished or not, or a file of another tool"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `command`, its name, and whether that runs the user's code."""
    parser = argparse.ArgumentParser(
        prog="python -m landscape_mpi", description="Loss landscapes of neural networks, swept by many MPI ranks."
    )
    parser.set_defaults(own_code=False)
    parser.add_argument("--version", action=_Version, help="print the versions of everything that matters")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, words, add_arguments in (
        ("sweep", "compute a surface; run again to go on where it stopped", add_sweep),
        ("demo", "train a small network, sweep the loss around it and draw it; no download", add_demo),
        ("check", "validate a job and estimate its cost; writes nothing", add_check),
        ("init", "write a commented job to start from", add_init),
        ("train", "train theta* and keep a checkpoint of every epoch; run again to go on where it stopped", add_train),
        ("merge", "put the shards that are there together into one surface", add_merge),
        ("info", "show what a surface file holds, how complete it is and how it was made", add_info),
        (
            "watch",
            "serve the page of surfaces that are being swept to browsers of this machine, until Ctrl-C",
            add_watch,
        ),
        (
            "export",
            "write a surface as .npz, .csv, .nc (netCDF-4) or .zarr, or its directions for other tools",
            add_export,
        ),
        ("fetch", "download the official CIFAR-10 archive and check it", add_fetch),
    ):
        add_arguments(commands.add_parser(name, help=words))
    return parser


def add_sweep(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `sweep`."""
    command.add_argument("job", type=Path, help=_JOB)
    _add_settings(command)
    _add_device(command)
    command.add_argument("--overwrite", action="store_true", help="start afresh where the output holds another sweep")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.add_argument(
        "--shard",
        metavar="I/N",
        help="compute share I of N, counted from 0, into its own file; auto/N takes I from the array task",
    )
    command.add_argument(
        "--on-failure",
        choices=["stop", "continue"],
        default="stop",
        help="continue: a point that raises is tried once more and then marked failed",
    )
    _add_time_limit(command)
    command.add_argument(
        "--group",
        type=_positive,
        metavar="K",
        help="K consecutive ranks of a node hold one network together, and evaluate each point together",
    )
    _add_verbose(command)
    command.set_defaults(own_code=True)


def add_demo(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `demo`."""
    command.add_argument(
        "folder", type=Path, nargs="?", default=Path("demo"), help="the folder for all results; default: demo"
    )


def add_check(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    command.add_argument("job", type=Path, help=_JOB)
    _add_settings(command)
    _add_device(command)
    command.add_argument(
        "--ranks", type=_positive, default=1, metavar="N", help="ranks per node, for the estimate of memory; default: 1"
    )
    command.add_argument(
        "--group", type=_positive, metavar="K", help="how many ranks hold one network together, as in sweep"
    )
    _add_verbose(command)
    command.set_defaults(own_code=True)


def add_init(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `init`."""
    command.add_argument("job", type=Path, help="the name of a new file")
    command.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a Hugging Face folder: a job for its language model, ready to run"
    )
    command.add_argument("--data", type=Path, metavar="FILE", help="the text that the model is evaluated on")


def add_train(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    command.add_argument(
        "jobs", type=Path, nargs="+", metavar="job", help="a job file; each of several is trained by one rank"
    )
    _add_settings(command)
    _add_device(command)
    command.add_argument("--overwrite", action="store_true", help="remove the checkpoints of an earlier run first")
    command.add_argument("--quiet", action="store_true", help="no progress")
    _add_time_limit(command)
    _add_verbose(command)
    command.set_defaults(own_code=True)


def add_merge(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `merge`."""
    command.add_argument("surface", type=Path, help="the surface file to write; it may hold some of the shards already")
    command.add_argument("shard", type=Path, nargs="+", help="files that `sweep --shard` wrote")


def add_info(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    command.add_argument("surface", type=Path, help=_SURFACE)


def add_watch(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `watch`."""

    def port(text: str) -> int:
        if not text.isdecimal() or int(text) > MOST_PORTS:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number from 0 to {MOST_PORTS}")
        return int(text)

    command.add_argument(
        "surface",
        type=Path,
        nargs="+",
        help="surface files, which need not be there yet; shards of a surface are shown as one surface",
    )
    command.add_argument("--port", type=port, default=0, help="the port of the page; default: a free one")


def add_export(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    command.add_argument("surface", type=Path, help=_SURFACE)
    command.add_argument(
        "target",
        type=Path,
        nargs="?",
        help="the file to write: its ending names the format, and an existing file is replaced",
    )
    command.add_argument(
        "--directions", type=Path, metavar="FILE.h5", help="write delta and eta as tomgoldstein/loss-landscape does"
    )
    command.add_argument(
        "--job",
        type=Path,
        metavar="FILE",
        help="where the paths of the job start, if directions have to be drawn again",
    )
    command.add_argument("--checkpoint", type=Path, metavar="FILE", help="the file of theta*, if it has moved")
    _add_verbose(command)
    command.set_defaults(own_code=True)


def add_fetch(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `fetch`."""
    command.add_argument("name", choices=["cifar10"])
    command.add_argument("--root", type=Path, required=True, help="the folder to put cifar-10-batches-py into")


class _Version(argparse.Action):
    """Print versions, one a line, and exit; they are looked up only here, as that imports torch."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from landscape_mpi.mpi.communicator import library_version
        from landscape_mpi.sweeping.provenance import versions, versions_around

        found = versions(library_version()) | versions_around()
        lines = [f"landscape_mpi {__version__}", *(f"{n} {v}" for n, v in found.items() if n != "landscape_mpi")]
        answer("\n".join(lines))
        parser.exit()


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number above 0")
    return int(text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a key of the job file, such as plane.seed=3; may be given several times",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:K")


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="also show the traceback where your own code raises"
    )


def _add_time_limit(parser: argparse.ArgumentParser) -> None:
    def seconds(text: str) -> float:
        value = float(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of seconds above 0")
        return value

    parser.add_argument(
        "--time-limit", type=seconds, metavar="SECONDS", help="stop by itself, with exit code 75; run again to go on"
    )
