"""Ranks that have lost one: what may still be done, and how they leave. Collective is nothing but the beginning."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.presence import Presence, make_place
from landscape_mpi.ranks.loop import HEARD
from landscape_mpi.ranks.messages import Failure, Leave
from landscape_mpi.ranks.watch import Watch
from landscape_mpi.ranks.world import RankError, World, failure_text, on_root, tell, together, wait_for

FAREWELL = 60
"""Seconds for MPI's own end, which waits for all ranks and would do so for ever where one has died by then."""


def begin_watch(world: World, surface: Path) -> None:
    """Watch over all ranks, where one may die and the others live; collective.

    Raises:
        UserError: on every rank, where files beside the surface cannot be made or locked.
    """
    if world.survives and world.watch is None:
        place = on_root(world, lambda: make_place(surface))
        presence = together(world, lambda: Presence(place.path, world.rank))
        world.watch = Watch(place, presence, world.rank, world.everywhere(world.host), world.keeper)


def alone(world: World) -> bool:
    """Whether a rank has been lost, so that nothing collective may be called any more."""
    return world.watch is not None and world.watch.alone


def finish_alone(world: World, step: Callable[[], None]) -> None:
    """Run a step on every rank that is left; rank 0 returns once all have done it, the others stay until it is gone.

    Raises:
        UserError: on rank 0, with the sentence of a rank that raised one.
        RankError: on rank 0, when a rank raised anything else.
    """
    if world.rank == 0:
        step()
        _hear_all(world)
        return
    try:
        step()
    except UserError as error:
        world.send(Failure(str(error), Exit.USER), 0)
    except Exception:
        world.send(Failure(failure_text(world)), 0)
    else:
        world.send(Leave(), 0)
    _stay(world)


def leave(world: World, code: Exit) -> Exit:
    """Return how this run has ended, together with all ranks; where some are lost, end it here and now.

    A complete surface does not hide a lost rank: the code is that of one.
    """
    if world.watch is None:
        world.meet()  # a launcher kills the other ranks as soon as one has exited with an error
        return code
    if alone(world):
        _part(world, world.watch, code)
    world.meet()
    world.watch.stop()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(FAREWELL)
    return code


def _hear_all(world: World) -> None:
    present = set(range(1, world.size))
    while present:
        present -= set(world.watch.lost if world.watch else [])
        found = world.poll()
        if found is None:
            time.sleep(HEARD / 10)
        elif isinstance(found[1], Failure):
            raise (UserError if found[1].code == Exit.USER else RankError)(found[1].text)
        elif isinstance(found[1], Leave):
            present.discard(found[0])


def _part(world: World, watch: Watch, code: Exit) -> NoReturn:
    """End without a word to MPI, which would wait for the dead."""
    if world.rank:
        _stay(world)
    if code == Exit.COMPLETE:
        names = ", ".join(watch.who(rank) for rank in watch.lost)
        tell(world, f"{names} died on the way, hence exit code {Exit.INTERNAL:d}; there is nothing left to do.")
    watch.stop()
    sys.stdout.flush()
    time.sleep(HEARD)
    os._exit(code or Exit.INTERNAL)


def _stay(world: World) -> NoReturn:
    """Wait for the end of rank 0, which the watch sees; what was sent leaves only while this rank looks."""
    wait_for(lambda: world.poll() and None)
    raise RuntimeError("a rank came back; expected it to end with rank 0.")
