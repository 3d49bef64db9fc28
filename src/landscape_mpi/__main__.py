"""`python -m landscape_mpi`: turns whatever a command raised into a message and an exit code."""

import sys
import traceback

from landscape_mpi.cli import run, verbose
from landscape_mpi.errors import Exit, UserError, out_of_memory


def main() -> int:
    """Run the command line; a user's mistake is one sentence, a traceback is a bug of ours."""
    try:
        return run(sys.argv[1:])
    except UserError as error:
        return _say(error.told(verbose(sys.argv[1:])), Exit.USER)
    except MemoryError as error:
        return _say(f"error: {out_of_memory(error)}", Exit.USER)
    except KeyboardInterrupt:
        return _say("interrupted; run the same command again to go on.", Exit.RUN_AGAIN)
    except Exception:
        return _say(traceback.format_exc(), Exit.INTERNAL)


def _say(text: str, code: Exit) -> int:
    sys.stderr.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
