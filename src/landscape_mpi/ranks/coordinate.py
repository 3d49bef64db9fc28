"""Who computes which point: rank 0 hands points out in a thread while it computes too; knows no network."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from landscape_mpi.ranks.world import World, wait_for
from landscape_mpi.surface.schema import Record

Index = tuple[int, ...]


@dataclass(frozen=True)
class Ask:
    """A rank wants its next point."""


@dataclass(frozen=True)
class Leave:
    """A rank has done its last point."""


@dataclass(frozen=True)
class Failure:
    """A rank raised; the text names rank, host and point."""

    text: str


class Dispenser:
    """The points still to do, in order, handed out one by one; every record that comes back is passed on."""

    def __init__(self, order: Iterable[Index], on_record: Callable[[Record], None]) -> None:
        self._order = iter(order)
        self._on_record = on_record
        self._lock = threading.Lock()

    def next(self) -> Index | None:
        """Return the next point, or None when all are handed out."""
        with self._lock:
            return next(self._order, None)

    def arrived(self, record: Record) -> None:
        """Pass on a record, one at a time."""
        with self._lock:
            self._on_record(record)


class Source(Protocol):
    """Where a rank gets its points from and reports to."""

    def ask(self) -> None:
        """Ask for a point without waiting for it."""

    def take(self) -> Index | None:
        """Return the point asked for, None when there is none left."""

    def report(self, record: Record) -> None:
        """Tell rank 0 what was found."""

    def leave(self) -> None:
        """Tell rank 0 that nothing more comes."""


class LocalSource:
    """The dispenser in the same process."""

    def __init__(self, dispenser: Dispenser) -> None:
        self._dispenser = dispenser

    def ask(self) -> None:
        """Do nothing: taking is instant here."""

    def take(self) -> Index | None:
        """Return the next point."""
        return self._dispenser.next()

    def report(self, record: Record) -> None:
        """Hand the record over."""
        self._dispenser.arrived(record)

    def leave(self) -> None:
        """Do nothing: the dispenser counts remote ranks only."""


class RemoteSource:
    """The dispenser on rank 0, by messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self) -> None:
        """Send for a point."""
        self._world.send(Ask(), 0)

    def take(self) -> Index | None:
        """Wait, asleep, for the point asked for."""
        index: Index | None = wait_for(self._world.poll)[1]
        return index

    def report(self, record: Record) -> None:
        """Send the record."""
        self._world.send(record, 0)

    def leave(self) -> None:
        """Send word."""
        self._world.send(Leave(), 0)


def work(source: Source, compute: Callable[[Index], Record], keep: Callable[[Record], None]) -> None:
    """Compute points until there are none left; the next one is asked for before this one is computed."""
    source.ask()
    while (index := source.take()) is not None:
        source.ask()
        record = compute(index)
        keep(record)
        source.report(record)
    source.leave()


def serve(world: World, dispenser: Dispenser, on_failure: Callable[[str], None]) -> None:
    """Answer the other ranks until all have left; runs in a thread of rank 0."""
    present = world.size - 1
    while present:
        rank, message = wait_for(world.poll)
        if isinstance(message, Ask):
            world.send(dispenser.next(), rank)
        elif isinstance(message, Record):
            dispenser.arrived(message)
        elif isinstance(message, Failure):
            on_failure(message.text)
        else:
            present -= 1
