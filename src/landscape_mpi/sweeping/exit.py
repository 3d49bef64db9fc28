"""How a run on many ranks ends: one message, one exit code, and no rank left waiting for another."""

import time
from collections.abc import Callable
from typing import ParamSpec

from landscape_mpi.errors import CentreMismatchError, Exit, UserError
from landscape_mpi.log import log, say
from landscape_mpi.mpi.coordinate import PieceError
from landscape_mpi.mpi.scheduler import HEARD
from landscape_mpi.mpi.signals import Interrupted
from landscape_mpi.mpi.world import RankError, World, failure_text
from landscape_mpi.sweeping.context import GO_ON

P = ParamSpec("P")


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
        return _leave(world, f"stopped by {reason}; {GO_ON}", Exit.RUN_AGAIN)
    except UserError as error:
        return _leave(world, error.told(verbose), Exit.USER)
    except (CentreMismatchError, RankError) as error:
        return _leave(world, f"error: {error}", Exit.INTERNAL)
    except PieceError as error:
        return _end(world, f"error: {error}", error.code)
    except BaseException:
        return _end(world, f"error: {failure_text(world)}")


def or_none(world: World, action: Callable[P, Exit], *args: P.args, **kwargs: P.kwargs) -> Exit:
    """Run a collective action within a program of somebody else, and return how it ended; that is not told.

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


def _leave(world: World, text: str, code: Exit) -> Exit:
    log(world, text)
    world.barrier()
    return code


def _end(world: World, text: str, code: int = Exit.INTERNAL) -> Exit:
    say(text)
    if world.size > 1:
        time.sleep(HEARD)
        world.abort(code)
    return Exit(code)
