"""Which piece is handed out next, and who has which in hand; sends nothing, and knows no piece from the inside."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic

from landscape_mpi.ranks.messages import Piece, Result
from landscape_mpi.stop import NEVER, Stop


class Later(Enum):
    """There is no piece now, but one may come."""

    LATER = 0


LATER = Later.LATER


@dataclass(frozen=True)
class Handlers(Generic[Piece, Result]):
    """What is done with every piece.

    Attributes:
        do: Turns a piece into a result, on any rank.
        keep: Takes a result on the rank that made it, before anyone hears of it.
        arrived: Takes every result on rank 0, one at a time.
        failed: Takes every piece that raised a PieceError twice, or whose rank died, with a text, on rank 0; None where
            none may.
        more: Returns further pieces on rank 0 once all are done, or none at the end; None where there are no more.
        place: Returns where a piece is, in words.
    """

    do: Callable[[Piece], Result]
    keep: Callable[[Result], None]
    arrived: Callable[[Result], None]
    failed: Callable[[Piece, str], None] | None = None
    more: Callable[[], Iterable[Piece]] | None = None
    place: Callable[[Piece], str] = repr


class Dispenser(Generic[Piece, Result]):
    """The pieces still to do, in order, handed out one by one; every result that comes back is passed on.

    A piece that failed is handed out once more; one that fails again is passed on too. What a rank had in hand when it
    died may have killed it: it comes last, and to rank 0, whose death is the end, when no other rank is left.
    """

    def __init__(
        self,
        pieces: Iterable[Piece],
        handlers: Handlers[Piece, Result],
        ranks: int = 1,
        stop: Stop = NEVER,
        blamed: Collection[str] = (),
    ) -> None:
        """Take the pieces, the number of ranks, and where rank 0 died in earlier runs, as `handlers.place` says it."""
        self._handlers, self._stop, self._blamed = handlers, stop, blamed
        self._failed: set[Piece] = set()
        self._todo: deque[Piece] = deque()
        self._again: deque[Piece] = deque()
        self._suspects: deque[Piece] = deque()
        self._out: defaultdict[int, deque[Piece]] = defaultdict(deque)
        self._others = ranks - 1
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
            if (piece := self._next(rank)) is not None:
                self._out[rank].append(piece)
                return piece
            return LATER if self._pending else None

    def refill(self) -> None:
        """Ask for more pieces where all are done; runs on rank 0 where it computes."""
        with self._lock:
            halted = self.stopped or self._stop.reason
            if self._handlers.more and not (self._over or halted or self._unfinished):
                self._add(self._handlers.more())
                self._over = not self._unfinished

    def arrived(self, rank: int, result: Result) -> None:
        """Pass on a rank's result, one at a time; ranks do their pieces in the order in which they got them."""
        with self._lock:
            self._out[rank].popleft()
            self._handlers.arrived(result)

    def failed(self, rank: int, text: str) -> None:
        """Take back the piece in a rank's hand, which raised; pass it on where that is the second time."""
        with self._lock:
            piece = self._out[rank].popleft()
            if not self._given_up(piece, text):
                self._again.append(piece)

    def lost(self, who: str, rank: int) -> str:
        """Take back what a rank had that died, and return in words what becomes of it."""
        with self._lock:
            self._others -= 1
            had = self._out.pop(rank, None)
            if not had:
                return f"{who} died; the others go on."
            in_hand = had.popleft()
            self._todo.extendleft(had)
            text = f"{who} died at {self._handlers.place(in_hand)}"
            if self._given_up(in_hand, text):
                return f"{text}, which had failed before; the others go on without it."
            self._suspects.append(in_hand)
            return f"{text}; the others go on and try it again."

    def left(self) -> None:
        """Hear that a rank other than 0 takes no more pieces."""
        self._others -= 1

    def halt(self) -> None:
        """Hand out nothing more."""
        self.stopped = True

    def _add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            blamed = bool(self._blamed) and self._handlers.place(piece) in self._blamed
            (self._suspects if blamed else self._todo).append(piece)
            if blamed:
                self._failed.add(piece)

    def _next(self, rank: int) -> Piece | None:
        for queue in (self._todo, self._again):
            if queue:
                return queue.popleft()
        return self._suspects.popleft() if self._suspects and (rank or not self._others) else None

    def _given_up(self, piece: Piece, text: str) -> bool:
        """Pass on a piece that failed for the second time."""
        again = piece in self._failed
        self._failed.add(piece)
        if again and self._handlers.failed is not None:
            self._handlers.failed(piece, text)
        return again

    @property
    def _unfinished(self) -> bool:
        return bool(self._todo or self._again or self._suspects or any(self._out.values()))

    @property
    def _pending(self) -> bool:
        """Whether a piece that is out may come back, or more may come."""
        return not self._over or (self._handlers.failed is not None and self._unfinished)
