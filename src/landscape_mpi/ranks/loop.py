"""One surface on all ranks: who serves, who computes, and what happens when a point raises; knows no network."""

import threading
import time
from collections.abc import Callable, Iterable

from landscape_mpi.ranks.coordinate import Dispenser, Failure, Index, LocalSource, RemoteSource, serve, work
from landscape_mpi.ranks.world import NAP, World, failure_text, tell
from landscape_mpi.surface import Record, Writer

GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""


class PointError(Exception):
    """The evaluation of a point raised on this rank alone; the text names rank, host and point."""


def compute_points(
    world: World, order: Iterable[Index], compute: Callable[[Index], Record], writer: Writer, step: Callable[[], None]
) -> None:
    """Compute all points of `order` on all ranks; collective, and no rank spins.

    Raises:
        PointError: on rank 0, when a point raised there; a point that raises elsewhere ends every rank at once.
    """
    if world.rank != 0:
        _compute_remotely(world, compute, writer)
        return

    def arrived(record: Record) -> None:
        writer.at_root(record)
        step()

    dispenser = Dispenser(order, arrived)
    if world.size == 1:
        work(LocalSource(dispenser), compute, writer.at_source)
    elif not world.threads:
        serve(world, dispenser, lambda text: _end(world, text))
    else:
        server = threading.Thread(target=_serve, args=(world, dispenser), name="coordinator", daemon=True)
        server.start()
        work(LocalSource(dispenser), compute, writer.at_source)
        server.join()


def _serve(world: World, dispenser: Dispenser) -> None:
    try:
        serve(world, dispenser, lambda text: _end(world, text))
    except Exception:
        _end(world, failure_text(world))


def _compute_remotely(world: World, compute: Callable[[Index], Record], writer: Writer) -> None:
    try:
        work(RemoteSource(world), compute, writer.at_source)
    except Exception as error:
        text = str(error) if isinstance(error, PointError) else failure_text(world)
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
    world.abort(1)
