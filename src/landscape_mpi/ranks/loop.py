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
    RemoteSource,
    Result,
    serve,
    work,
)
from landscape_mpi.ranks.world import NAP, World, failure_text, tell
from landscape_mpi.stop import NEVER, Stop

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""
HEARD = 0.2
"""Seconds that a launcher gets to pass a message on before it ends all ranks, and with them what it has not read."""


class PieceError(Exception):
    """A piece of work raised on this rank alone; the text names rank, host and piece."""


@dataclass(frozen=True)
class Handlers(Generic[Piece, Result]):
    """What is done with every piece.

    Attributes:
        do: Turns a piece into a result, on any rank.
        keep: Takes a result on the rank that made it, before anyone hears of it.
        arrived: Takes every result on rank 0, one at a time.
    """

    do: Callable[[Piece], Result]
    keep: Callable[[Result], None]
    arrived: Callable[[Result], None]


def share_out(world: World, pieces: Iterable[Piece], handlers: Handlers[Piece, Result], stop: Stop = NEVER) -> bool:
    """Do all pieces on all ranks; collective, and no rank spins. Those of rank 0 count.

    Returns:
        On every rank, whether they were done to the end: False where some rank had a reason to stop.

    Raises:
        PieceError: on rank 0, when a piece raised there; one that raises elsewhere ends every rank at once.
    """
    if world.rank != 0:
        _work_remotely(world, handlers)
        return world.from_root(True)
    dispenser = Dispenser(pieces, handlers.arrived, stop)
    _work_at_root(world, dispenser, handlers)
    return world.from_root(not dispenser.stopped)


def _work_at_root(world: World, dispenser: Dispenser[Piece, Result], handlers: Handlers[Piece, Result]) -> None:
    local: LocalSource[Piece, Result] = LocalSource(dispenser)
    if world.size == 1:
        work(local, handlers.do, handlers.keep)
    elif not world.threads:
        serve(world, dispenser, lambda text: _end(world, text))
    else:
        server = threading.Thread(target=_serve, args=(world, dispenser), name="coordinator", daemon=True)
        server.start()
        work(local, handlers.do, handlers.keep)
        server.join()


def _serve(world: World, dispenser: Dispenser[Any, Any]) -> None:
    try:
        serve(world, dispenser, lambda text: _end(world, text))
    except Exception:
        _end(world, failure_text(world))


def _work_remotely(world: World, handlers: Handlers[Piece, Result]) -> None:
    source: RemoteSource[Piece, Result] = RemoteSource(world)
    try:
        work(source, handlers.do, handlers.keep)
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
