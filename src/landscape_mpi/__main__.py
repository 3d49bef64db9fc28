"""Runs `python -m landscape_mpi`: a command, whose exceptions become a message and an exit code."""

import logging
import os
import sys
import traceback

from landscape_mpi.errors import Exit, UserError, out_of_memory
from landscape_mpi.log import console, say, shield
from landscape_mpi.mpi.failures import Parent, fork_rank
from landscape_mpi.mpi.launcher import launcher_of


def main() -> int:
    """Run the command line; a user's mistake is shown as one sentence, and a bug of ours as a traceback.

    A command that needs the user's code runs in a child of this process, and this process sees how the child ends.
    """
    shield()
    with console(of_command=True):
        verbose = not {"-v", "--verbose"}.isdisjoint(sys.argv[1:])
        options, parent, text = None, None, ""
        try:
            from landscape_mpi.cli import execute, parse  # here, so that an interruption of the import is handled too

            options = parse(sys.argv[1:])
            parent = _forked() if options.own_code else None
            code = execute(options, parent)
        except UserError as error:
            text, code = error.told(verbose), Exit.USER
        except MemoryError as error:
            text, code = f"error: {out_of_memory(error)}", Exit.USER
        except KeyboardInterrupt:
            text, code = "interrupted; run the same command again to go on.", Exit.RUN_AGAIN
        except BaseException:
            if options is None:  # --help, or arguments that cannot be parsed
                raise
            text, code = traceback.format_exc(), Exit.INTERNAL
        if text:
            say(text, logging.INFO if code == Exit.RUN_AGAIN else logging.ERROR)
        if parent:
            parent.leave(code)
        return code


def _forked() -> Parent | None:
    """Fork, and return in the child alone: this process stays its parent and watches it."""
    launcher = launcher_of(os.environ)
    return fork_rank(launcher.rank, launched=True) if launcher and launcher.many else fork_rank(0, launched=False)


if __name__ == "__main__":
    sys.exit(main())
