"""Who does which piece of work: rank 0 hands pieces out while it works too; what a piece is only its callers know."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from landscape_mpi.ranks.world import World, wait_for
from landscape_mpi.stop import NEVER, Interrupted, Stop

Piece = TypeVar("Piece")
"""What is handed out, such as the index of a point; never None, and small enough for a message."""
Result = TypeVar("Result")
"""What comes back."""
PieceOut = TypeVar("PieceOut", covariant=True)
ResultIn = TypeVar("ResultIn", contravariant=True)


@dataclass(frozen=True)
class Ask:
    """A rank wants its next piece."""


@dataclass(frozen=True)
class Report(Generic[Result]):
    """A rank has done a piece."""

    result: Result


@dataclass(frozen=True)
class Leave:
    """A rank has done its last piece; `stopped`: though there were more, because it has been told to stop."""

    stopped: bool = False


@dataclass(frozen=True)
class Failure:
    """A rank raised; the text names rank, host and piece."""

    text: str


class Dispenser(Generic[Piece, Result]):
    """The pieces still to do, in order, handed out one by one; every result that comes back is passed on."""

    def __init__(self, order: Iterable[Piece], on_result: Callable[[Result], None], stop: Stop = NEVER) -> None:
        self._order = iter(order)
        self._on_result = on_result
        self._stop = stop
        self._lock = threading.Lock()
        self.stopped = False

    def next(self) -> Piece | None:
        """Return the next piece, or None when all are handed out or some rank has been told to stop."""
        with self._lock:
            self.stopped = self.stopped or bool(self._stop.reason)
            return None if self.stopped else next(self._order, None)

    def halt(self) -> None:
        """Hand out nothing more."""
        self.stopped = True

    def arrived(self, result: Result) -> None:
        """Pass on a result, one at a time."""
        with self._lock:
            self._on_result(result)


class Source(Protocol[PieceOut, ResultIn]):
    """Where a rank gets its pieces from and reports to."""

    def ask(self) -> None:
        """Ask for a piece without waiting for it."""

    def take(self) -> PieceOut | None:
        """Return the piece asked for, None when there is none left."""

    def report(self, result: ResultIn) -> None:
        """Tell rank 0 what was found."""

    def leave(self, stopped: bool) -> None:
        """Tell rank 0 that nothing more comes, and whether because this rank was told to stop."""


class LocalSource(Generic[Piece, Result]):
    """The dispenser in the same process."""

    def __init__(self, dispenser: Dispenser[Piece, Result]) -> None:
        self._dispenser = dispenser

    def ask(self) -> None:
        """Do nothing: taking is instant here."""

    def take(self) -> Piece | None:
        """Return the next piece."""
        return self._dispenser.next()

    def report(self, result: Result) -> None:
        """Hand the result over."""
        self._dispenser.arrived(result)

    def leave(self, stopped: bool) -> None:
        """Say so where this rank was told to stop; the dispenser counts remote ranks only."""
        if stopped:
            self._dispenser.halt()


class RemoteSource(Generic[Piece, Result]):
    """The dispenser on rank 0, by messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self) -> None:
        """Send for a piece."""
        self._world.send(Ask(), 0)

    def take(self) -> Piece | None:
        """Wait, asleep, for the piece asked for."""
        piece: Piece | None = wait_for(self._world.poll)[1]
        return piece

    def report(self, result: Result) -> None:
        """Send the result."""
        self._world.send(Report(result), 0)

    def leave(self, stopped: bool) -> None:
        """Send word."""
        self._world.send(Leave(stopped), 0)


def work(source: Source[Piece, Result], do: Callable[[Piece], Result], keep: Callable[[Result], None]) -> None:
    """Do pieces until there are none left; the next one is asked for before this one is done.

    A piece that is interrupted is dropped, and the one asked for with it.
    """
    source.ask()
    while (piece := source.take()) is not None:
        source.ask()
        try:
            result = do(piece)
        except Interrupted:
            source.take()
            source.leave(stopped=True)
            return
        keep(result)
        source.report(result)
    source.leave(stopped=False)


def serve(world: World, dispenser: Dispenser[Piece, Result], on_failure: Callable[[str], None]) -> None:
    """Answer the other ranks until all have left; runs in a thread of rank 0."""
    present = world.size - 1
    while present:
        rank, message = wait_for(world.poll)
        if isinstance(message, Ask):
            world.send(dispenser.next(), rank)
        elif isinstance(message, Report):
            dispenser.arrived(message.result)
        elif isinstance(message, Failure):
            on_failure(message.text)
        else:
            present -= 1
            if message.stopped:
                dispenser.halt()
