"""Work on all ranks: who serves, who works, and what happens when a piece raises; knows nothing of the work itself."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic

from landscape_mpi.ranks.coordinate import (
    Dispenser,
    Failure,
    LocalSource,
    Piece,
    PieceError,
    RemoteSource,
    Result,
    Worker,
    serve,
)
from landscape_mpi.ranks.world import NAP, World, failure_text, tell
from landscape_mpi.stop import NEVER, Stop

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""
HEARD = 0.2
"""Seconds that a launcher gets to pass a message on before it ends all ranks, and with them what it has not read."""


@dataclass(frozen=True)
class Handlers(Generic[Piece, Result]):
    """What is done with every piece.

    Attributes:
        do: Turns a piece into a result, on any rank.
        keep: Takes a result on the rank that made it, before anyone hears of it.
        arrived: Takes every result on rank 0, one at a time.
        failed: Takes every piece that raised a PieceError twice, with its text, on rank 0; None where none may.
    """

    do: Callable[[Piece], Result]
    keep: Callable[[Result], None]
    arrived: Callable[[Result], None]
    failed: Callable[[Piece, str], None] | None = None


def share_out(world: World, pieces: Iterable[Piece], handlers: Handlers[Piece, Result], stop: Stop = NEVER) -> bool:
    """Do all pieces on all ranks; collective, and no rank spins. Those of rank 0 count.

    A piece that raises is tried once more, on whichever rank asks next, where `handlers.failed` takes those that raise
    twice; otherwise it ends every rank.

    Returns:
        On rank 0, whether they were done to the end: False where some rank had a reason to stop. True on the others.

    Raises:
        PieceError: on rank 0, when a piece raised there and nobody takes it; elsewhere it ends every rank at once.
    """
    if world.rank != 0:
        _work_remotely(world, handlers)
        return True
    dispenser = Dispenser(pieces, handlers.arrived, handlers.failed, stop)
    _work_at_root(world, dispenser, handlers)
    return not dispenser.stopped


def _work_at_root(world: World, dispenser: Dispenser[Piece, Result], handlers: Handlers[Piece, Result]) -> None:
    local: LocalSource[Piece, Result] = LocalSource(dispenser)
    worker = Worker(local, handlers.do, handlers.keep, tolerant=handlers.failed is not None)
    if world.size == 1:
        worker.work()
    elif not world.threads:
        serve(world, dispenser, lambda text: _end(world, text))
    else:
        server = threading.Thread(target=_serve, args=(world, dispenser), name="coordinator", daemon=True)
        server.start()
        worker.work()
        server.join()


def _serve(world: World, dispenser: Dispenser[Any, Any]) -> None:
    try:
        serve(world, dispenser, lambda text: _end(world, text))
    except Exception:
        _end(world, failure_text(world))


def _work_remotely(world: World, handlers: Handlers[Piece, Result]) -> None:
    source: RemoteSource[Piece, Result] = RemoteSource(world)
    try:
        Worker(source, handlers.do, handlers.keep, tolerant=handlers.failed is not None).work()
    except Exception as error:
        text = str(error) if isinstance(error, PieceError) else failure_text(world)
        world.send(Failure(text), 0)
        _linger(world)
        raise


def _linger(world: World) -> None:
    """Give rank 0 time to end the job; a long text leaves only while this rank looks at its messages."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        world.poll()
        time.sleep(NAP)


def _end(world: World, text: str) -> None:
    tell(world, f"error: {text}")
    time.sleep(HEARD)
    world.abort(1)
