"""Ends a sweep on many ranks with one message and one exit code, and leaves no rank waiting for another."""

import logging
import time
from collections.abc import Callable
from typing import ParamSpec

from landscape_mpi.errors import CentreMismatchError, Exit, UserError
from landscape_mpi.log import log, say
from landscape_mpi.mpi.scheduler import HEARD, PieceError
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import RankError, World, failure_text
from landscape_mpi.sweeping.context import SweepContext

P = ParamSpec("P")
GO_ON = "what is done is kept: run the same command again to go on."
MOST_NAMED = 10
"""Failed points that are named at the end."""


def guarded(world: World, verbose: bool, action: Callable[P, Exit], *args: P.args, **kwargs: P.kwargs) -> Exit:
    """Run a collective action and return the exit code; `verbose` shows tracebacks of the user's own code as well.

    What every rank raises together is printed by rank 0 and ends all of them in good order; anything else happened to
    one rank alone, while the others may wait for it, and ends them at once.
    """
    try:
        code = action(*args, **kwargs)
        world.barrier()  # a launcher kills the other ranks as soon as one has exited with an error
        return code
    except Interrupted as reason:
        return _leave(world, f"stopped by {reason}; {GO_ON}", Exit.RUN_AGAIN, logging.INFO)
    except UserError as error:
        return _leave(world, error.told(verbose), Exit.USER)
    except (CentreMismatchError, RankError) as error:
        return _leave(world, f"error: {error}", Exit.INTERNAL)
    except PieceError as error:
        return _end(world, f"error: {error}", error.code)
    except BaseException:
        return _end(world, f"error: {failure_text(world)}")


def guarded_call(world: World, action: Callable[P, Exit], *args: P.args, **kwargs: P.kwargs) -> Exit:
    """Run a collective action within somebody else's program and return the exit code; nothing is printed.

    What every rank raises together is raised; anything else ends all ranks where there are several.
    """
    try:
        return action(*args, **kwargs)
    except (UserError, CentreMismatchError, RankError, Interrupted):
        raise
    except BaseException as error:
        piece = error if isinstance(error, PieceError) else None
        if world.size > 1:
            _end(world, f"error: {piece or failure_text(world)}", piece.code if piece else Exit.INTERNAL)
        if piece and isinstance(piece.__cause__, UserError):
            raise piece.__cause__ from piece.__cause__.__cause__
        raise


def stopped(context: SweepContext) -> Exit:
    """Say that the surface is not complete and how to go on; collective."""
    reasons = [reason for reason in context.world.allgather(context.experiment.stop.reason) if reason]
    log(context.world, f"{context.path}: stopped by {reasons[0] if reasons else 'a rank'}; {GO_ON}")
    return Exit.RUN_AGAIN


def some_failed(context: SweepContext, texts: list[str]) -> Exit:
    """Name the points that raised twice or at which ranks died twice, and say how to try them again."""
    for text in texts[:MOST_NAMED]:
        log(context.world, f"failed: {text.partition(chr(10))[0]}")
    more = f" ({len(texts) - MOST_NAMED} not named here)" if len(texts) > MOST_NAMED else ""
    count = f"{len(texts)} point{'s' if len(texts) > 1 else ''}"
    log(context.world, f"{context.path}: complete but for {count} that failed twice{more}; the next run tries again.")
    return Exit.FAILED_POINTS


def _leave(world: World, text: str, code: Exit, level: int = logging.ERROR) -> Exit:
    log(world, text, level)
    world.barrier()
    return code


def _end(world: World, text: str, code: int = Exit.INTERNAL) -> Exit:
    say(text, logging.ERROR, world.rank)
    if world.size > 1:
        time.sleep(HEARD)
        world.abort(code)
    return Exit(code)
