"""Parses the command line and runs the command that it names.

Each command imports what it needs: `info` starts without torch, `fetch` without MPI.
"""

import argparse
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from landscape_mpi.arguments import build_parser
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
        command = COMMANDS[options.command]
        return int(command(options, parent) if options.own_code else command(options))


@contextmanager
def heavy_imports() -> Iterator[None]:
    """Import torch with garbage collection off, and leave its objects out of every later collection.

    None of them ever becomes garbage, and searching them takes a quarter of the time that a rank needs to start and
    to end.
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
            settings=tuple(options.settings),
        )
        return guarded(world, options.verbose, sweep, options.job, flags, world, stop)


def demo(options: argparse.Namespace) -> int:
    """Train, sweep and draw a small network."""
    from landscape_mpi.demo import demo

    return demo(options.folder)


def check(options: argparse.Namespace, _: Parent | None) -> int:
    """Print what a job would do and cost."""
    with heavy_imports():
        from landscape_mpi.sweeping.check import check

    answer(check(options.job, options.device, options.ranks, options.group, tuple(options.settings)).removesuffix("\n"))
    return Exit.COMPLETE


def init(options: argparse.Namespace) -> int:
    """Write a commented job, and never replace a file that exists."""
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

    settings = tuple(options.settings)
    flags = Options(options.device, options.overwrite, options.time_limit, options.verbose, settings)
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


def watch(options: argparse.Namespace) -> int:
    """Serve the page of surfaces until interrupted."""
    from landscape_mpi.plot.watch import watch

    watch(options.surface, options.port, report)
    return Exit.COMPLETE


def export(options: argparse.Namespace, _: Parent | None) -> int:
    """Write a surface in another format, or its directions."""
    if options.target is None and options.directions is None:
        raise UserError("", "nothing is to be written", expected=("TARGET or ", Flag("directions", ("FILE.h5",))))
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


COMMANDS: dict[str, Callable[..., int]] = {
    "sweep": sweep,
    "demo": demo,
    "check": check,
    "init": init,
    "train": train,
    "merge": merge,
    "info": info,
    "watch": watch,
    "export": export,
    "fetch": fetch,
}
"""The function that runs each command; a function that runs the user's code takes the parent process as well."""
