"""Parses the command line and runs the command that it names.

Each command imports what it needs: `info` starts without torch, `fetch` without MPI.
"""

import argparse
import gc
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from landscape_mpi import __version__
from landscape_mpi.errors import Exit, Flag, UserError
from landscape_mpi.log import answer, check_answered, console, report, say
from landscape_mpi.mpi.failures import Parent
from landscape_mpi.mpi.shutdown import Stop


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments, run the command in this process and return its exit code. Raises as `execute`."""
    return execute(parse(arguments))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the arguments as values."""
    try:
        return build_parser().parse_args(arguments)
    except SystemExit:  # of --help and --version
        check_answered()
        raise


def execute(options: argparse.Namespace, parent: Parent | None = None) -> int:
    """Run the command of parsed arguments and return its exit code; `parent` is the process above this one.

    Raises:
        UserError: the command found a mistake of the user's.
    """
    with console(progress=not getattr(options, "quiet", False), of_command=True):
        return int(options.command(options, parent) if options.own_code else options.command(options))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each sets `command` to what runs it, and whether that runs the user's code."""
    parser = argparse.ArgumentParser(
        prog="python -m landscape_mpi", description="Loss landscapes of neural networks, swept by many MPI ranks."
    )
    parser.set_defaults(own_code=False)
    parser.add_argument("--version", action=_Version, help="print the versions of everything that matters")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = commands.add_parser("sweep", help="compute a surface; run again to go on where it stopped")
    command.add_argument("job", type=Path, help="the job file")
    _add_device(command)
    command.add_argument("--overwrite", action="store_true", help="start afresh where the output holds another sweep")
    command.add_argument("--quiet", action="store_true", help="no progress")
    command.add_argument(
        "--shard", metavar="I/N", help="share I of N, counted from 0, into a file of its own; auto/N: I is the task's"
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
    command.set_defaults(command=sweep, own_code=True)

    command = commands.add_parser("check", help="validate a job and estimate its cost; writes nothing")
    command.add_argument("job", type=Path, help="the job file")
    _add_device(command)
    command.add_argument(
        "--ranks", type=_positive, default=1, metavar="N", help="of a node, for its memory; default: 1"
    )
    command.add_argument(
        "--group", type=_positive, metavar="K", help="how many of them are to hold one network together, as in sweep"
    )
    _add_verbose(command)
    command.set_defaults(command=check, own_code=True)

    command = commands.add_parser("init", help="write a commented job to start from")
    command.add_argument("job", type=Path, help="the name of a new file")
    command.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a Hugging Face folder: a job for its language model, ready to run"
    )
    command.add_argument("--data", type=Path, metavar="FILE", help="the text that the model is evaluated on")
    command.set_defaults(command=init)

    command = commands.add_parser(
        "train", help="train theta* and keep a checkpoint of every epoch; run again to go on where it stopped"
    )
    command.add_argument(
        "jobs", type=Path, nargs="+", metavar="job", help="a job file; each of several is trained by one rank"
    )
    _add_device(command)
    command.add_argument("--overwrite", action="store_true", help="remove the checkpoints of an earlier run first")
    command.add_argument("--quiet", action="store_true", help="no progress")
    _add_time_limit(command)
    _add_verbose(command)
    command.set_defaults(command=train, own_code=True)

    command = commands.add_parser("merge", help="put shards together into one surface, as many as there are")
    command.add_argument("surface", type=Path, help="the file to put them into; may hold some of them already")
    command.add_argument("shard", type=Path, nargs="+", help="files that `sweep --shard` wrote")
    command.set_defaults(command=merge)

    command = commands.add_parser("info", help="what a surface file holds, how complete it is and where it is from")
    command.add_argument("surface", type=Path, help="finished or not; other tools' files as well")
    command.set_defaults(command=info)

    command = commands.add_parser(
        "export", help="write a surface as .npz, .csv or .nc (netCDF-4), or its directions for other tools"
    )
    command.add_argument("surface", type=Path, help="finished or not; other tools' files as well")
    command.add_argument(
        "target", type=Path, nargs="?", help="its ending names the format; a file that is there is replaced"
    )
    command.add_argument(
        "--directions", type=Path, metavar="FILE.h5", help="write delta and eta as tomgoldstein/loss-landscape does"
    )
    command.add_argument(
        "--job", type=Path, metavar="FILE", help="where the job's paths start, for directions that have to be drawn"
    )
    command.add_argument("--checkpoint", type=Path, metavar="FILE", help="theta*, where it has moved, for the same")
    _add_verbose(command)
    command.set_defaults(command=export, own_code=True)

    command = commands.add_parser("fetch", help="download the official CIFAR-10 archive and check it")
    command.add_argument("name", choices=["cifar10"])
    command.add_argument("--root", type=Path, required=True, help="the folder to put cifar-10-batches-py into")
    command.set_defaults(command=fetch)
    return parser


class _Version(argparse.Action):
    """Print versions, one a line, and exit; they are looked up only here, as that imports torch."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from landscape_mpi.mpi.communicator import library_version
        from landscape_mpi.sweeping.provenance import versions

        found = versions(library_version()).items()
        lines = [f"landscape_mpi {__version__}", *(f"{n} {v}" for n, v in found if n != "landscape_mpi")]
        answer("\n".join(lines))
        parser.exit()


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number above 0")
    return int(text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:K")


def _add_verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-v", "--verbose", action="store_true", help="the traceback as well where your own code raises")


def _add_time_limit(parser: argparse.ArgumentParser) -> None:
    def seconds(text: str) -> float:
        value = float(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a number of seconds above 0")
        return value

    parser.add_argument(
        "--time-limit", type=seconds, metavar="SECONDS", help="stop by itself, with exit code 75; run again to go on"
    )


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import torch with garbage collection off, and leave its objects out of every later collection.

    None of them ever becomes garbage, and searching them is a quarter of the time that the start and the end of a
    rank take.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def sweep(options: argparse.Namespace, parent: Parent | None) -> int:
    """Compute a surface, or what it lacks."""
    stop = Stop()
    with stop.listening():  # from here on, because what comes next takes seconds
        with heavy_imports():
            from landscape_mpi.mpi.communicator import open_world
            from landscape_mpi.sweeping.context import Options
            from landscape_mpi.sweeping.run import guarded, sweep

        world = open_world(parent)
        flags = Options(
            device=options.device,
            overwrite=options.overwrite,
            shard=options.shard,
            time_limit=options.time_limit,
            tolerant=options.on_failure == "continue",
            group=options.group,
            verbose=options.verbose,
        )
        return guarded(world, options.verbose, sweep, options.job, flags, world, stop)


def check(options: argparse.Namespace, _: Parent | None) -> int:
    """Print what a job would do and cost."""
    with heavy_imports():
        from landscape_mpi.sweeping.check import check

    answer(check(options.job, options.device, options.ranks, options.group).removesuffix("\n"))
    return Exit.COMPLETE


def init(options: argparse.Namespace) -> int:
    """Write a commented job, never over a file that is there."""
    from landscape_mpi.job import TEMPLATE

    text: str = TEMPLATE
    notes: Sequence[str] = ()
    if options.model is not None:
        with heavy_imports():
            from landscape_mpi.sweeping.first_job import first_job

        text, notes = first_job(options.model, options.data, options.job)
    elif options.data is not None:
        raise UserError(Flag("data"), "found it alone", expected=("with ", Flag("model", ("FOLDER",))))
    try:
        with options.job.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(
            options.job, f"cannot be written ({error.strerror})", expected="the name of a new file"
        ) from None
    for note in notes:
        say(f"note: {note}.", logging.WARNING)
    report(str(options.job))
    return Exit.COMPLETE


def train(options: argparse.Namespace, parent: Parent | None) -> int:
    """Train the networks of jobs."""
    with heavy_imports():
        from landscape_mpi.mpi.communicator import open_world
        from landscape_mpi.train import Options, train_jobs

    flags = Options(options.device, options.overwrite, options.time_limit, options.verbose)
    return train_jobs(options.jobs, flags, open_world(parent))


def merge(options: argparse.Namespace) -> int:
    """Merge shards, and print how complete the surface is."""
    from landscape_mpi.surface.merge import merge
    from landscape_mpi.surface.status import remedies, state

    merged = merge(options.surface, options.shard)
    lines = [f"{options.surface}: {state(merged.surface)}; {merged.new} of them new"]
    lines += [f"to go on: {command}" for command in remedies(merged.surface)]
    for note in merged.notes:
        say(f"note: {note}.", logging.WARNING)
    report("\n".join(lines))
    return Exit.COMPLETE if merged.surface.complete else Exit.RUN_AGAIN


def info(options: argparse.Namespace) -> int:
    """Print what a surface file holds."""
    from landscape_mpi.surface.status import describe

    answer(describe(options.surface).removesuffix("\n"))
    return Exit.COMPLETE


def export(options: argparse.Namespace, _: Parent | None) -> int:
    """Write a surface in another format, or its directions."""
    if options.target is None and options.directions is None:
        raise UserError("", "nothing says what to write", expected=("TARGET or ", Flag("directions", ("FILE.h5",))))
    if options.target is not None:
        from landscape_mpi.surface.export import export

        export(options.surface, options.target)
        report(str(options.target))
    if options.directions is not None:
        from landscape_mpi.surface.directions import check_direction_target, copy_directions

        check_direction_target(options.surface, options.directions)
        if not copy_directions(options.surface, options.directions):
            with heavy_imports():
                from landscape_mpi.sweeping.drawn_directions import draw_directions

            draw_directions(options.surface, options.directions, options.job, options.checkpoint)
        report(str(options.directions))
    return Exit.COMPLETE


def fetch(options: argparse.Namespace) -> int:
    """Download the CIFAR-10 archive."""
    from landscape_mpi.data import fetch_cifar10

    report(str(fetch_cifar10(options.root, report=say)))
    return Exit.COMPLETE
