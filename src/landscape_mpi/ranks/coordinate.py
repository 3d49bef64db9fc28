"""Who does which piece of work: rank 0 hands pieces out while it works too; what a piece is only its callers know."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from landscape_mpi.ranks.messages import Ask, Failed, Failure, Leave, Piece, Report, Result
from landscape_mpi.ranks.world import World, wait_for
from landscape_mpi.stop import NEVER, Interrupted, Stop

ResultIn = TypeVar("ResultIn", contravariant=True)


class PieceError(Exception):
    """A piece of work raised on this rank alone; the text names rank, host and piece."""


class Dispenser(Generic[Piece, Result]):
    """The pieces still to do, in order, handed out one by one; every result that comes back is passed on.

    A piece that failed is handed out once more; one that fails again is passed on too.
    """

    def __init__(
        self,
        order: Iterable[Piece],
        on_result: Callable[[Result], None],
        on_failed: Callable[[Piece, str], None] | None = None,
        stop: Stop = NEVER,
    ) -> None:
        self._order = iter(order)
        self._on_result, self._on_failed = on_result, on_failed
        self._stop = stop
        self._failed: set[Piece] = set()
        self._again: deque[Piece] = deque()
        self._lock = threading.Lock()
        self.stopped = False

    def next(self) -> Piece | None:
        """Return the next piece, or None when all are handed out or some rank has been told to stop."""
        with self._lock:
            self.stopped = self.stopped or bool(self._stop.reason)
            if self.stopped:
                return None
            piece = next(self._order, None)
            return self._again.popleft() if piece is None and self._again else piece

    def failed(self, piece: Piece, text: str) -> None:
        """Take back a piece that raised, to be handed out again; pass it on where that is the second time."""
        with self._lock:
            if piece not in self._failed:
                self._failed.add(piece)
                self._again.append(piece)
            elif self._on_failed is not None:
                self._on_failed(piece, text)

    def halt(self) -> None:
        """Hand out nothing more."""
        self.stopped = True

    def arrived(self, result: Result) -> None:
        """Pass on a result, one at a time."""
        with self._lock:
            self._on_result(result)


class Source(Protocol[Piece, ResultIn]):
    """Where a rank gets its pieces from and reports to."""

    def ask(self) -> None:
        """Ask for a piece without waiting for it."""

    def take(self) -> Piece | None:
        """Return the piece asked for, None when there is none left."""

    def report(self, result: ResultIn) -> None:
        """Tell rank 0 what was found."""

    def fail(self, piece: Piece, text: str) -> None:
        """Give a piece back that raised."""

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

    def fail(self, piece: Piece, text: str) -> None:
        """Hand the piece back."""
        self._dispenser.failed(piece, text)

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

    def fail(self, piece: Piece, text: str) -> None:
        """Send the piece back."""
        self._world.send(Failed(piece, text), 0)

    def leave(self, stopped: bool) -> None:
        """Send word."""
        self._world.send(Leave(stopped), 0)


class Worker(Generic[Piece, Result]):
    """Does pieces until there are none left; the next one is asked for before this one is done."""

    def __init__(
        self,
        source: Source[Piece, Result],
        do: Callable[[Piece], Result],
        keep: Callable[[Result], None],
        tolerant: bool,
    ) -> None:
        """Take where pieces come from and what is done with them; `tolerant`: whether one that raises is given back."""
        self._source, self._do, self._keep, self._tolerant = source, do, keep, tolerant
        self._gave_back = False

    def work(self) -> None:
        """Do them. A piece that is interrupted is dropped, and the one asked for with it.

        Raises:
            PieceError: a piece raised, and none may.
        """
        self._source.ask()
        try:
            while (piece := self._next()) is not None:
                self._source.ask()
                self._try(piece)
        except Interrupted:
            self._source.take()
            self._source.leave(stopped=True)
        else:
            self._source.leave(stopped=False)

    def _next(self) -> Piece | None:
        """Return the piece asked for; a piece given back since then may be there by now where that is none."""
        piece = self._source.take()
        if piece is None and self._gave_back:
            self._gave_back = False
            self._source.ask()
            return self._source.take()
        return piece

    def _try(self, piece: Piece) -> None:
        try:
            result = self._do(piece)
        except PieceError as error:
            if not self._tolerant:
                raise
            self._gave_back = True
            self._source.fail(piece, str(error))
        else:
            self._keep(result)
            self._source.report(result)


def serve(world: World, dispenser: Dispenser[Piece, Result], on_failure: Callable[[Failure], None]) -> None:
    """Answer the other ranks until all have left; runs in a thread of rank 0."""
    present = world.size - 1
    while present:
        rank, message = wait_for(world.poll)
        if isinstance(message, Ask):
            world.send(dispenser.next(), rank)
        elif isinstance(message, Report):
            dispenser.arrived(message.result)
        elif isinstance(message, Failed):
            dispenser.failed(message.piece, message.text)
        elif isinstance(message, Failure):
            on_failure(message)
        else:
            present -= 1
            if message.stopped:
                dispenser.halt()
