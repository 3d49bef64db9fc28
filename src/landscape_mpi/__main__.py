"""`python -m landscape_mpi`: turns whatever a command raised into a message and an exit code."""

import sys
import traceback

from landscape_mpi.errors import Exit, UserError, out_of_memory
from landscape_mpi.streams import say, shield


def main() -> int:
    """Run the command line; a user's mistake is one sentence, a traceback is a bug of ours."""
    shield()
    verbose = not {"-v", "--verbose"}.isdisjoint(sys.argv[1:])
    try:
        from landscape_mpi.cli import run  # here, so that an interruption of the import is one as well

        return run(sys.argv[1:])
    except UserError as error:
        return _say(error.told(verbose), Exit.USER)
    except MemoryError as error:
        return _say(f"error: {out_of_memory(error)}", Exit.USER)
    except KeyboardInterrupt:
        return _say("interrupted; run the same command again to go on.", Exit.RUN_AGAIN)
    except Exception:
        return _say(traceback.format_exc(), Exit.INTERNAL)


def _say(text: str, code: Exit) -> int:
    say(text)
    return code


if __name__ == "__main__":
    sys.exit(main())
