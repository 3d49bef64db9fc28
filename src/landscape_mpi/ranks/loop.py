"""Work on all ranks: who serves, who works, and what happens when a piece raises; knows nothing of the work itself."""

import threading
import time
from collections.abc import Iterable
from typing import Any

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.ranks.coordinate import LocalSource, PieceError, RemoteSource, Server, Worker
from landscape_mpi.ranks.dispenser import Dispenser, Handlers
from landscape_mpi.ranks.messages import Failure, Parting, Piece, Result
from landscape_mpi.ranks.world import NAP, World, failure_text, tell, wait_for
from landscape_mpi.stop import NEVER, Stop

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""
HEARD = 0.2
"""Seconds that a launcher gets to pass a message on before it ends all ranks, and with them what it has not read."""


def share_out(world: World, pieces: Iterable[Piece], handlers: Handlers[Piece, Result], stop: Stop = NEVER) -> bool:
    """Do all pieces on all ranks; collective, and no rank spins. Those of rank 0 count.

    A piece that raises is tried once more, on whichever rank asks next, where `handlers.failed` takes those that raise
    twice; otherwise it ends every rank. The same goes for a piece whose rank dies, where `world.watch` sees that: then
    `world.watch.alone` is set afterwards, and nothing collective may be called any more.

    Returns:
        On rank 0, whether they were done to the end: False where some rank had a reason to stop. True on the others.

    Raises:
        PieceError: a piece raised in a world of one, and nobody takes it; elsewhere it ends every rank at once.
    """
    if world.watch and handlers.failed is not None:
        world.watch.tolerate()
        world.meet()  # from the first piece on, any rank may die
    if world.rank != 0:
        _work_remotely(world, handlers)
        _hear_parting(world)
        return True
    blamed = world.watch.blamed if world.watch and handlers.failed else ()
    dispenser = Dispenser(pieces, handlers, world.size, stop, blamed)
    _work_at_root(world, dispenser, handlers, _Ending(world))
    _part(world)
    return not dispenser.stopped


def _part(world: World) -> None:
    """Tell all others whether some have died: the answer is the same everywhere, whatever happens from now on."""
    if world.watch:
        parting = Parting(world.watch.settle())
        for rank in range(1, world.size):
            world.send(parting, rank)
        world.watch.part(parting.alone)


def _hear_parting(world: World) -> None:
    if world.watch:
        world.watch.part(wait_for(world.poll)[1].alone)


def _work_at_root(
    world: World, dispenser: Dispenser[Piece, Result], handlers: Handlers[Piece, Result], end: "_Ending"
) -> None:
    local: LocalSource[Piece, Result] = LocalSource(dispenser, lambda piece: _note(world, handlers.place(piece)))
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
        except Exception as error:  # the other ranks are in the middle of their work and would wait for this one
            end(_failure(world, error))
        server.join()


def _note(world: World, place: str) -> None:
    if world.watch:
        world.watch.note(place)


def _serve(world: World, dispenser: Dispenser[Any, Any], end: "_Ending", alone: bool = False) -> None:
    """Serve the others; `alone`: this rank does no pieces, so what is left when all others have died stays undone."""
    try:
        Server(world, dispenser, end, alone).serve()
        if alone and dispenser.next(0) is not None:
            dispenser.halt()
    except Exception as error:
        end(_failure(world, error))


def _work_remotely(world: World, handlers: Handlers[Piece, Result]) -> None:
    source: RemoteSource[Piece, Result] = RemoteSource(world)
    try:
        Worker(source, handlers).work()
    except Exception as error:
        world.send(_failure(world, error), 0)
        _linger(world)
        raise


def _linger(world: World) -> None:
    """Give rank 0 time to end the job; a long text leaves only while this rank looks at its messages."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        world.poll()
        time.sleep(NAP)


def _failure(world: World, error: Exception) -> Failure:
    """Return how the job ends of what is being handled on this rank: a user's mistake needs no traceback."""
    if isinstance(error, UserError):
        return Failure(str(error), Exit.USER)
    return Failure(str(error), error.code) if isinstance(error, PieceError) else Failure(failure_text(world))


class _Ending:
    """The end of all ranks at once, with one message, however many of them failed by then."""

    def __init__(self, world: World) -> None:
        self._world, self._first = world, threading.Lock()

    def __call__(self, failure: Failure) -> None:
        if self._first.acquire(blocking=False):
            tell(self._world, f"error: {failure.text}")
            time.sleep(HEARD)
            self._world.abort(failure.code)
        time.sleep(GRACE)
