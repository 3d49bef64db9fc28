"""Decides which piece of work is next, and knows which rank has which piece; sends no messages."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from landscape_mpi.mpi.shutdown import NEVER, Stop

Piece = TypeVar("Piece")
"""What is handed out, such as the index of a point; never None, and small enough for a message."""
Result = TypeVar("Result")
"""The result of a piece."""


class Later(Enum):
    """The answer where there is no piece now, but one may come."""

    LATER = 0


LATER = Later.LATER


@dataclass(frozen=True)
class Handlers(Generic[Piece, Result]):
    """What is done with every piece.

    Attributes:
        do: Turns a piece into a result, on any rank.
        keep: Takes a result on the rank that made it, before anyone hears of it.
        arrived: Takes every result on rank 0, one at a time.
        failed: Takes every piece that is given up, with a text, on rank 0: the piece raised a PieceError twice, or
            ranks died twice while they had it in hand.
        tolerant: Whether a piece may raise; if not, a piece that raises ends every rank.
        deaths: Returns what is known of ranks that died at a piece in earlier runs, in words.
        more: Returns further pieces on rank 0 once all are done, and no pieces at the end. It is None where there are
            no further pieces.
    """

    do: Callable[[Piece], Result]
    keep: Callable[[Result], None]
    arrived: Callable[[Result], None]
    failed: Callable[[Piece, str], None]
    tolerant: bool = False
    deaths: Callable[[Piece], Sequence[str]] = lambda _: ()
    more: Callable[[], Iterable[Piece]] | None = None


class Dispenser(Generic[Piece, Result]):
    """The pieces still to do, in order, handed out one by one; every result that comes back is passed on.

    A piece that failed is handed out once more; if it fails again, it is passed on too. If a rank died with a piece in
    hand, the next rank may die of it as well. Such a piece comes last, while no other piece is out. After two deaths it
    is not handed out again.
    """

    def __init__(self, pieces: Iterable[Piece], handlers: Handlers[Piece, Result], stop: Stop = NEVER) -> None:
        """Take the pieces and what is done with them."""
        self._handlers, self._stop = handlers, stop
        self._failed: set[Piece] = set()
        self._todo: deque[Piece] = deque()
        self._again: deque[Piece] = deque()
        self._suspects: deque[Piece] = deque()
        self._out: defaultdict[int, deque[Piece]] = defaultdict(deque)
        self._over = handlers.more is None
        self._lock = threading.Lock()
        self.stopped = False
        self._add(pieces)

    def next(self, rank: int) -> Piece | Later | None:
        """Return the next piece for a rank, LATER, or None when all are done or some rank has been told to stop."""
        with self._lock:
            self.stopped = self.stopped or bool(self._stop.reason)
            if self.stopped:
                return None
            queue = self._todo or self._again
            if not queue and not any(self._out.values()):
                queue = self._suspects
            if queue:
                self._out[rank].append(queue[0])
                return queue.popleft()
            # a piece that is out may come back, or more may come
            pending = not self._over or bool(self._suspects) or (self._handlers.tolerant and self._unfinished)
            return LATER if pending else None

    def refill(self) -> None:
        """Ask for more pieces where all are done; runs on rank 0."""
        with self._lock:
            halted = self.stopped or self._stop.reason
            if self._handlers.more and not (self._over or halted or self._unfinished):
                pieces = list(self._handlers.more())
                self._add(pieces)
                self._over = not pieces

    def arrived(self, rank: int, result: Result) -> None:
        """Pass on a rank's result, one at a time; ranks do their pieces in the order in which they got them."""
        with self._lock:
            self._out[rank].popleft()
            self._handlers.arrived(result)

    def failed(self, rank: int, text: str) -> None:
        """Take back the piece that a rank had in hand and that raised; pass it on if it raised for the second time."""
        with self._lock:
            piece = self._out[rank].popleft()
            if piece in self._failed:
                self._handlers.failed(piece, text)
            else:
                self._failed.add(piece)
                self._again.append(piece)

    def halt(self) -> None:
        """Hand out nothing more."""
        self.stopped = True

    def _add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            deaths = self._handlers.deaths(piece)
            if len(deaths) > 1:
                self._handlers.failed(piece, "; ".join(deaths))
            else:
                (self._suspects if deaths else self._todo).append(piece)

    @property
    def _unfinished(self) -> bool:
        return bool(self._todo or self._again or self._suspects or any(self._out.values()))
