"""Distributes pieces of work among all ranks: rank 0 hands them out, and works too.

The dispenser decides which piece is next. A rank asks for its next piece before it does the one in hand, so that it
need not wait for the answer. Rank 0 answers in a thread where MPI allows it, else it does no pieces itself. Where ranks
are in teams that do each piece together, the first rank of each team asks, and tells the others what to do.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from landscape_mpi.errors import Exit, Text, UserError, render
from landscape_mpi.log import log
from landscape_mpi.mpi.dispenser import LATER, Dispenser, Handlers, Piece, Result
from landscape_mpi.mpi.shutdown import NEVER, Interrupted, Stop
from landscape_mpi.mpi.world import NAP, World, failure_text, wait_for

P = ParamSpec("P")
PieceOut = TypeVar("PieceOut", covariant=True)
ResultIn = TypeVar("ResultIn", contravariant=True)
GRACE = 10.0
"""Seconds that a failed rank gives rank 0 to end the job with its message."""
HEARD = 0.2
"""Seconds that a launcher gets to pass a message on before it ends all ranks; then what it has not read is lost."""


class PieceError(Exception):
    """A piece of work raised on this rank alone; the text names rank, host and piece, `code` is the exit code."""

    def __init__(self, text: Text, code: int = Exit.INTERNAL) -> None:
        super().__init__(render(text))
        self.text, self.code = text, code


def share_out(
    world: World,
    pieces: Iterable[Piece],
    handlers: Handlers[Piece, Result],
    stop: Stop = NEVER,
    team: World | None = None,
) -> bool:
    """Do the pieces of rank 0 on all ranks; collective. A rank that waits takes no processor time.

    Where the handlers are tolerant, a piece that raises is tried once more, on the next rank that asks. Otherwise it
    ends every rank.

    Args:
        world: All ranks.
        pieces: In order.
        handlers: What is done with them.
        stop: When to hand out no more pieces.
        team: The ranks, this one among them, that do each piece together: `do` is called on all of them, and has to
            return or raise alike. None where each rank is alone.

    Returns:
        On rank 0, whether they were done to the end: False where some rank had a reason to stop. True on the others.

    Raises:
        PieceError: a piece raised in a world of one rank, and the handlers are not tolerant; in a larger world it ends
            every rank at once.
    """
    if team is not None and team.rank != 0:
        _work_remotely(world, _follow, team, handlers)
        return True
    if world.rank != 0:
        remote: RemoteSource[Piece, Result] = RemoteSource(world)
        _work_remotely(world, _work, _for(team, remote), handlers)
        return True
    dispenser = Dispenser(pieces, handlers, stop)
    ours: LocalSource[Piece, Result] = LocalSource(dispenser)
    local = _for(team, ours)
    end = _Ending(world)
    asking = range(0, world.size, team.size if team else 1)
    if world.size == 1:
        _work(local, handlers)
    elif not world.threads and len(asking) > 1:
        if team:
            team.bcast(None)
        _serve(Server(world, dispenser, end, asking, refills=True))
    else:
        server = Server(world, dispenser, end, asking, refills=False)
        thread = threading.Thread(target=_serve, args=(server,), name="coordinator", daemon=True)
        thread.start()
        try:
            _work(local, handlers)
        except BaseException as error:  # the other ranks are in the middle of their work and would wait for this one
            end(_failure(world, error))
        thread.join()
    return not dispenser.stopped


# What ranks tell rank 0.


@dataclass(frozen=True)
class Ask:
    """The message by which a rank asks for its next piece."""


@dataclass(frozen=True)
class Report(Generic[Result]):
    """A rank has done a piece."""

    result: Result


@dataclass(frozen=True)
class Failed:
    """The piece in hand raised, and its rank goes on; the text is as in `Failure`."""

    text: str


@dataclass(frozen=True)
class Leave:
    """A rank has done its last piece; `stopped`: it has been told to stop although there were more pieces."""

    stopped: bool = False


@dataclass(frozen=True)
class Failure:
    """A rank raised; the text names rank, host and piece, and the exit code is the one to end with."""

    text: Text
    code: int = Exit.INTERNAL


class PieceSource(Protocol[PieceOut, ResultIn]):
    """Where a rank gets its pieces from and reports to."""

    def ask(self) -> None:
        """Ask for a piece without waiting for it."""

    def take(self) -> PieceOut | None:
        """Return the piece asked for, None when there is none left; sleep until there is an answer."""

    def report(self, result: ResultIn) -> None:
        """Tell rank 0 what was found."""

    def fail(self, text: str) -> None:
        """Give back the piece that raised."""

    def leave(self, stopped: bool) -> None:
        """Tell rank 0 that nothing more comes, and whether the reason is that this rank was told to stop."""


class LocalSource(Generic[Piece, Result]):
    """The dispenser in the same process."""

    def __init__(self, dispenser: Dispenser[Piece, Result]) -> None:
        self._dispenser = dispenser

    def ask(self) -> None:
        """Do nothing: rank 0 need not ask for its pieces in advance."""

    def take(self) -> Piece | None:
        """Return the next piece."""

        def look() -> tuple[Piece | None] | None:
            self._dispenser.refill()
            piece = self._dispenser.next(0)
            return None if piece is LATER else (piece,)

        return wait_for(look)[0]

    def report(self, result: Result) -> None:
        """Hand the result over."""
        self._dispenser.arrived(0, result)

    def fail(self, text: str) -> None:
        """Hand the piece back."""
        self._dispenser.failed(0, text)

    def leave(self, stopped: bool) -> None:
        """Hand out nothing more where this rank was told to stop."""
        if stopped:
            self._dispenser.halt()


class TeamSource(Generic[Piece, Result]):
    """The source of a team's first rank, which passes each piece on to the others."""

    def __init__(self, source: PieceSource[Piece, Result], team: World) -> None:
        self._source, self._team, self._left = source, team, False

    def ask(self) -> None:
        """Ask the source."""
        self._source.ask()

    def take(self) -> Piece | None:
        """Return what the source gives, and pass it on to the other ranks unless they have left."""
        piece = self._source.take()
        return piece if self._left else self._team.bcast(piece)

    def report(self, result: Result) -> None:
        """Tell the source."""
        self._source.report(result)

    def fail(self, text: str) -> None:
        """Tell the source."""
        self._source.fail(text)

    def leave(self, stopped: bool) -> None:
        """Tell the source; the other ranks leave by themselves."""
        self._left = True
        self._source.leave(stopped)


def _for(team: World | None, source: PieceSource[Piece, Result]) -> PieceSource[Piece, Result]:
    return TeamSource(source, team) if team is not None and team.size > 1 else source


class RemoteSource(Generic[Piece, Result]):
    """The dispenser on rank 0, by messages."""

    def __init__(self, world: World) -> None:
        self._world = world

    def ask(self) -> None:
        """Send for a piece."""
        self._world.send(Ask(), 0)

    def take(self) -> Piece | None:
        """Return the piece that rank 0 sends."""
        piece: Piece | None = wait_for(self._world.poll)[1]
        return piece

    def report(self, result: Result) -> None:
        """Send the result."""
        self._world.send(Report(result), 0)

    def fail(self, text: str) -> None:
        """Tell rank 0."""
        self._world.send(Failed(text), 0)

    def leave(self, stopped: bool) -> None:
        """Tell rank 0."""
        self._world.send(Leave(stopped), 0)


def _work(source: PieceSource[Piece, Result], handlers: Handlers[Piece, Result]) -> None:
    """Do pieces until there are none left; drop a piece that is interrupted, and the one asked for after it.

    Raises:
        PieceError: a piece raised, and the handlers are not tolerant.
    """
    source.ask()
    try:
        while (piece := source.take()) is not None:
            source.ask()
            try:
                result = handlers.do(piece)
            except PieceError as error:
                if not handlers.tolerant:
                    raise
                source.fail(str(error))
            else:
                handlers.keep(result)
                source.report(result)
    except Interrupted:
        source.leave(stopped=True)
        source.take()
    else:
        source.leave(stopped=False)


def _follow(team: World, handlers: Handlers[Piece, Result]) -> None:
    """Do the pieces that the first rank of a team passes on, and leave all else to it.

    Raises:
        PieceError: a piece raised, and the handlers are not tolerant.
    """
    nothing: Piece | None = None
    with suppress(Interrupted):
        while (piece := team.bcast(nothing)) is not None:
            try:
                handlers.do(piece)
            except PieceError:
                if not handlers.tolerant:
                    raise


def _work_remotely(world: World, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Do pieces that rank 0 hands out; where that fails, give rank 0 time to end the job with the reason."""
    try:
        work(*args, **kwargs)
    except BaseException as error:
        world.send(_failure(world, error), 0)
        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            world.poll()  # a long text is sent only while this rank looks at its messages
            time.sleep(NAP)
        raise


class Server(Generic[Piece, Result]):
    """Answers the other ranks until all have left; runs in a thread of rank 0, or where rank 0 only serves."""

    def __init__(
        self,
        world: World,
        dispenser: Dispenser[Piece, Result],
        end: "_Ending",
        asking: Iterable[int],
        *,
        refills: bool,
    ) -> None:
        """Take the ranks, the pieces and how the job ends.

        Args:
            world: All ranks.
            dispenser: The pieces.
            end: How the job ends.
            asking: The ranks that ask for pieces, rank 0 among them.
            refills: Whether this server asks for more pieces.
        """
        self.world, self.end = world, end
        self._dispenser, self._refills = dispenser, refills
        self._present = set(asking) - {0}
        self._waiting: list[int] = []

    def serve(self) -> None:
        """Answer."""
        while self._present:
            wait_for(self._step)

    def _step(self) -> bool | None:
        """Take a message, and hand out pieces to the ranks that wait; None where there is nothing to do."""
        if found := self.world.poll():
            self._hear(*found)
        elif self._refills:
            self._dispenser.refill()
        answers = [(rank, self._dispenser.next(rank)) for rank in self._waiting]
        for rank, piece in answers:
            if piece is not LATER:
                self._waiting.remove(rank)
                self.world.send(piece, rank)
        return bool(found) or any(piece is not LATER for _, piece in answers) or None

    def _hear(self, rank: int, message: Any) -> None:
        if isinstance(message, Ask):
            self._waiting.append(rank)
        elif isinstance(message, Report):
            self._dispenser.arrived(rank, message.result)
        elif isinstance(message, Failed):
            self._dispenser.failed(rank, message.text)
        elif isinstance(message, Failure):
            self.end(message)
        elif isinstance(message, Leave):
            self._present.discard(rank)
            if message.stopped:
                self._dispenser.halt()


def _serve(server: Server[Any, Any]) -> None:
    """Serve the other ranks; where that fails, end the job."""
    try:
        server.serve()
    except BaseException as error:
        server.end(_failure(server.world, error))


def _failure(world: World, error: BaseException) -> Failure:
    """Return how the job ends because of the error handled on this rank: a user's mistake needs no traceback."""
    if isinstance(error, UserError):
        return Failure(error, Exit.USER)
    return Failure(error.text, error.code) if isinstance(error, PieceError) else Failure(failure_text(world))


class _Ending:
    """The end of all ranks at once, with one message, however many of them failed by then."""

    def __init__(self, world: World) -> None:
        self._world, self._first = world, threading.Lock()

    def __call__(self, failure: Failure) -> None:
        if self._first.acquire(blocking=False):
            log(self._world, ("error: ", failure.text), logging.ERROR)
            time.sleep(HEARD)
            self._world.abort(failure.code)
        time.sleep(GRACE)
