"""Who does which piece of work: rank 0 hands pieces out while it works too; what a piece is only its callers know."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from landscape_mpi.errors import Exit, Text, render
from landscape_mpi.mpi.dispenser import LATER, Dispenser, Handlers
from landscape_mpi.mpi.messages import Ask, Failed, Failure, Leave, Piece, Report, Result
from landscape_mpi.mpi.signals import Interrupted
from landscape_mpi.mpi.world import World, wait_for

PieceOut = TypeVar("PieceOut", covariant=True)
ResultIn = TypeVar("ResultIn", contravariant=True)


class PieceError(Exception):
    """A piece of work raised on this rank alone; the text names rank, host and piece, `code` is what it ends with."""

    def __init__(self, text: Text, code: int = Exit.INTERNAL) -> None:
        super().__init__(render(text))
        self.text, self.code = text, code


class Source(Protocol[PieceOut, ResultIn]):
    """Where a rank gets its pieces from and reports to."""

    def ask(self) -> None:
        """Ask for a piece without waiting for it."""

    def take(self) -> PieceOut | None:
        """Return the piece asked for, None when there is none left."""

    def report(self, result: ResultIn) -> None:
        """Tell rank 0 what was found."""

    def fail(self, text: str) -> None:
        """Give the piece back that raised."""

    def leave(self, stopped: bool) -> None:
        """Tell rank 0 that nothing more comes, and whether because this rank was told to stop."""


class LocalSource(Generic[Piece, Result]):
    """The dispenser in the same process."""

    def __init__(self, dispenser: Dispenser[Piece, Result]) -> None:
        self._dispenser = dispenser

    def ask(self) -> None:
        """Do nothing: nobody needs to be asked early here."""

    def take(self) -> Piece | None:
        """Return the next piece, asleep until there is one."""
        return wait_for(self._look)[0]

    def report(self, result: Result) -> None:
        """Hand the result over."""
        self._dispenser.arrived(0, result)

    def fail(self, text: str) -> None:
        """Hand the piece back."""
        self._dispenser.failed(0, text)

    def leave(self, stopped: bool) -> None:
        """Say so where this rank was told to stop."""
        if stopped:
            self._dispenser.halt()

    def _look(self) -> tuple[Piece | None] | None:
        self._dispenser.refill()
        piece = self._dispenser.next(0)
        return None if piece is LATER else (piece,)


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

    def fail(self, text: str) -> None:
        """Send word."""
        self._world.send(Failed(text), 0)

    def leave(self, stopped: bool) -> None:
        """Send word."""
        self._world.send(Leave(stopped), 0)


class Worker(Generic[Piece, Result]):
    """Does pieces until there are none left; the next one is asked for before this one is done."""

    def __init__(self, source: Source[Piece, Result], handlers: Handlers[Piece, Result]) -> None:
        """Take where pieces come from and what is done with them."""
        self._source, self._handlers = source, handlers

    def work(self) -> None:
        """Do them. A piece that is interrupted is dropped, and the one asked for with it.

        Raises:
            PieceError: a piece raised, and none may.
        """
        self._source.ask()
        try:
            while (piece := self._source.take()) is not None:
                self._source.ask()
                self._try(piece)
        except Interrupted:
            self._source.leave(stopped=True)
            self._source.take()
        else:
            self._source.leave(stopped=False)

    def _try(self, piece: Piece) -> None:
        try:
            result = self._handlers.do(piece)
        except PieceError as error:
            if not self._handlers.tolerant:
                raise
            self._source.fail(str(error))
        else:
            self._handlers.keep(result)
            self._source.report(result)


class Server(Generic[Piece, Result]):
    """Answers the other ranks until all have left; runs in a thread of rank 0, or where rank 0 only serves."""

    def __init__(
        self, world: World, dispenser: Dispenser[Piece, Result], fail: Callable[[Failure], None], refills: bool
    ) -> None:
        """Take who is served with what; `fail` ends the job, `refills`: whether nobody else asks for more pieces."""
        self._world, self._dispenser, self._fail, self._refills = world, dispenser, fail, refills
        self.present = set(range(1, world.size))
        self._waiting: list[int] = []

    def serve(self) -> None:
        """Answer."""
        while self.present:
            wait_for(self._step)

    def _step(self) -> bool | None:
        """Do one thing; None where there is nothing to do."""
        if found := self._world.poll():
            self._hear(*found)
        elif self._refills:
            self._dispenser.refill()
        return self._answer() or bool(found) or None

    def _hear(self, rank: int, message: Any) -> None:
        if isinstance(message, Ask):
            self._waiting.append(rank)
        elif isinstance(message, Report):
            self._dispenser.arrived(rank, message.result)
        elif isinstance(message, Failed):
            self._dispenser.failed(rank, message.text)
        elif isinstance(message, Failure):
            self._fail(message)
        elif isinstance(message, Leave):
            self.present.discard(rank)
            if message.stopped:
                self._dispenser.halt()

    def _answer(self) -> bool:
        """Hand out what there is for those that wait; return whether anybody got something."""
        answers = [(rank, self._dispenser.next(rank)) for rank in self._waiting]
        for rank, piece in answers:
            if piece is not LATER:
                self._waiting.remove(rank)
                self._world.send(piece, rank)
        return any(piece is not LATER for _, piece in answers)
