"""Work on all ranks: who serves, who works, and what happens when a piece raises; knows nothing of the work itself."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.log import log
from landscape_mpi.mpi.coordinate import LocalSource, PieceError, RemoteSource, Server, Worker
from landscape_mpi.mpi.dispenser import Dispenser, Handlers
from landscape_mpi.mpi.messages import Failure, Piece, Result
from landscape_mpi.mpi.signals import NEVER, Stop
from landscape_mpi.mpi.world import NAP, World, failure_text

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""
HEARD = 0.2
"""Seconds that a launcher gets to pass a message on before it ends all ranks, and with them what it has not read."""


def share_out(world: World, pieces: Iterable[Piece], handlers: Handlers[Piece, Result], stop: Stop = NEVER) -> bool:
    """Do all pieces on all ranks; collective, and no rank spins. Those of rank 0 count.

    A piece that raises is tried once more, on whichever rank asks next, where the handlers are tolerant; otherwise it
    ends every rank.

    Returns:
        On rank 0, whether they were done to the end: False where some rank had a reason to stop. True on the others.

    Raises:
        PieceError: a piece raised in a world of one, and nobody takes it; elsewhere it ends every rank at once.
    """
    if world.rank != 0:
        _work_remotely(world, handlers)
        return True
    dispenser = Dispenser(pieces, handlers, stop)
    _work_at_root(world, dispenser, handlers, _Ending(world))
    return not dispenser.stopped


def _work_at_root(
    world: World, dispenser: Dispenser[Piece, Result], handlers: Handlers[Piece, Result], end: "_Ending"
) -> None:
    local: LocalSource[Piece, Result] = LocalSource(dispenser)
    worker = Worker(local, handlers)
    if world.size == 1:
        worker.work()
    elif not world.threads:
        _serve(world, dispenser, end, alone=True)
    else:
        server = threading.Thread(target=_serve, args=(world, dispenser, end), name="coordinator", daemon=True)
        server.start()
        try:
            worker.work()
        except BaseException as error:  # the other ranks are in the middle of their work and would wait for this one
            end(_failure(world, error))
        server.join()


def _serve(world: World, dispenser: Dispenser[Any, Any], end: "_Ending", alone: bool = False) -> None:
    """Serve the others; `alone`: this rank does no pieces."""
    try:
        Server(world, dispenser, end, alone).serve()
    except BaseException as error:
        end(_failure(world, error))


def _work_remotely(world: World, handlers: Handlers[Piece, Result]) -> None:
    source: RemoteSource[Piece, Result] = RemoteSource(world)
    try:
        Worker(source, handlers).work()
    except BaseException as error:
        world.send(_failure(world, error), 0)
        _linger(world)
        raise


def _linger(world: World) -> None:
    """Give rank 0 time to end the job; a long text leaves only while this rank looks at its messages."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        world.poll()
        time.sleep(NAP)


def _failure(world: World, error: BaseException) -> Failure:
    """Return how the job ends of what is being handled on this rank: a user's mistake needs no traceback."""
    if isinstance(error, UserError):
        return Failure(error, Exit.USER)
    return Failure(error.text, error.code) if isinstance(error, PieceError) else Failure(failure_text(world))


class _Ending:
    """The end of all ranks at once, with one message, however many of them failed by then."""

    def __init__(self, world: World) -> None:
        self._world, self._first = world, threading.Lock()

    def __call__(self, failure: Failure) -> None:
        if self._first.acquire(blocking=False):
            log(self._world, ("error: ", failure.text))
            time.sleep(HEARD)
            self._world.abort(failure.code)
        time.sleep(GRACE)
