"""Rank 0's desk in a sampled sweep: hands out, takes in, writes estimates and says how far things are."""

import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Exit
from landscape_mpi.log import log
from landscape_mpi.sampling.order import Ints
from landscape_mpi.surface import DONE, FAILED, NOT_YET, Audit, PlanLog, WholeWriter, fitting
from landscape_mpi.surface.makers import BY
from landscape_mpi.sweeping.books import Book, Books, known, worst_bar
from landscape_mpi.sweeping.context import Ready
from landscape_mpi.sweeping.progress import Line, Pace
from landscape_mpi.sweeping.slices import Found, Piece

BOOKS = ("seconds", "rank", "error", BY)
"""What the file holds of who computed a point; old files have no makers."""
OFTEN, SHARE = 10.0, 0.02
"""Estimates are written every 10 seconds within a round, or seldom enough to take no more than 2 % of the time."""


class Desk:
    """The books, the file and the plan's log of one surface."""

    def __init__(self, ready: Ready, books: Books, writer: WholeWriter, log: PlanLog | None, identity: bytes) -> None:
        """Take what `sampled` has opened; `identity` is that of the ranks' journals, and a shard has no log."""
        self._begun = False
        self.identity = identity
        self._ready, self._books, self._writer, self._log = ready, books, writer, log
        self._work = {name: writer.read(name).reshape(-1) for name in BOOKS if writer.has(name)}
        status = writer.read("status")
        self._work["error"][status.reshape(-1) == FAILED] = b""  # they are tried again
        self._shown = int((status == DONE).sum())
        self._worst, self._waiting, self._later = 0.0, 0, 0
        self._next_write = time.monotonic() + OFTEN
        self._line, self._pace = Line(ready.stream), Pace()
        self._explained: set[str] = set()
        self._failures: dict[int, str] = {}

    @property
    def orders(self) -> dict[str, Ints]:
        """The images of each split in the order in which they are evaluated."""
        return {book.name: book.rounds.ladder.frame.order for book in self._books.books}

    def greet(self, stored: int, ranks: str) -> None:
        """Say what there is to do."""
        job = self._ready.job
        points, error = int(np.prod(job.chosen_grid.shape)), job.sampling.error if job.sampling else 0.0
        before = f"{stored} slices of images are there; " if stored else ""
        log(self._ready.world, f"{self._ready.path}: {before}{points} points to bars of {error:.3g}, on {ranks}.")

    def turn(self) -> list[Piece]:
        """Write what is known, decide what is next and return it; nothing at the end."""
        if self._begun:
            self._write()
            self._line.show(self._text, last=True)
        pieces = self._books.first_level() if self._log is None else self._books.next(self._log.add)
        self._waiting = sum(piece.stop - piece.start for piece in pieces)
        self._later = self._images_later()
        for book in self._books.books:
            self._say_why_all(book)
        self._begun = True
        return pieces

    def arrived(self, found: Found) -> None:
        """Take what a piece gave, from whichever rank."""
        images = len(found.evaluated.losses)
        self._books.arrived(found)
        self._account(found)
        self._pace.count(images)
        self._waiting -= images
        self._line.show(self._text)
        if time.monotonic() > self._next_write:
            self._write()
            if self._writer.name_lost:
                self._ready.experiment.stop.limit(0)

    @property
    def given_up(self) -> Collection[int]:
        """The numbers of the points that are given up."""
        return self._failures.keys()

    def failed(self, piece: Piece, text: str) -> None:
        """Give up the point of a piece that raised twice, or at which ranks died twice."""
        self._books.lose(piece)
        self._failures[piece.point] = text

    def end(self, complete: bool) -> Exit:
        """Write the last estimates, and where all is done what the audit found, and mark the surface complete."""
        self._write()
        if not complete:
            return Exit.RUN_AGAIN
        if self._failures:
            return self._ready.some_failed(list(self._failures.values()))
        verdict = self._books.verdict
        audit = None if verdict is None else Audit(verdict.points, verdict.misses, verdict.worst, verdict.passed)
        self._writer.finish(self._books.rounds, audit)
        for sentence in self._closing(audit):
            log(self._ready.world, sentence)
        return Exit.COMPLETE if verdict is None or verdict.passed else Exit.FAILED_POINTS

    def _closing(self, audit: Audit | None) -> Iterator[str]:
        path, used = self._ready.path, self._books.used
        if shard := self._ready.identity.shard:
            yield f"{path}: the first level of shard {shard} is complete, with bars of up to {self._worst:.2%}."
            yield "Once all shards are, go on without --shard: the rounds need the first level of all points."
            return
        yield f"{path}: complete, every bar within its target, {factor(used)}, in {self._books.rounds} rounds."
        if audit is not None:
            yield f"{path}: audit: {audit.words}; with it {factor(used + self._books.audited)}."
        yield f"Draw it: landscape-plot {path}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self) -> None:
        """Write all estimates; not while fewer points have one than the file shows, as after a restart."""
        started = time.monotonic()
        results = self._books.results()
        there = known(results)
        self._worst = worst_bar(results)
        if there.sum() >= max(self._shown, 1):
            self._shown = int(there.sum())
            shape = self._ready.job.chosen_grid.shape
            for point, text in self._failures.items():
                self._work["error"][point] = fitting(text)
            shaped: dict[str, NDArray[np.generic]] = {
                name: values.reshape(shape) for name, values in {**results, **self._work}.items()
            }
            self._writer.write(shaped, self._status(there).reshape(shape))
        now = time.monotonic()
        self._next_write = now + max(OFTEN, (now - started) / SHARE)

    def _status(self, there: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """Return the status of every point [G]."""
        status = np.where(there, DONE, NOT_YET).astype(np.uint8)
        lost = [point for point in self._failures if not there[point]]
        status[lost] = FAILED
        return status

    def _account(self, found: Found) -> None:
        """Note who took how long at the point."""
        point = found.evaluated.point
        self._work["seconds"][point] = np.nansum([self._work["seconds"][point], found.seconds])
        self._work["rank"][point] = found.rank
        if self._ready.makers:
            self._work[BY][point] = self._ready.makers[found.rank]
        if found.note:
            self._work["error"][point] = fitting(found.note)

    def _images_later(self) -> int:
        """Return about how many images come after this round, the audit included."""
        if self._log is None:
            return 0
        books = [book for book in self._books.books if book.audit is None]
        audits = sum(book.sampling.audit * book.rounds.ladder.frame.images for book in books)
        return audits + sum(book.rounds.outlook for book in books if book.rounds.log)

    def _text(self, _: float) -> str:
        """Return e.g. `round 3: 2.14% of a full sweep's images, worst bar 7.3%, up to 1:16 left`."""
        share = self._books.used + self._books.audited
        return (
            f"{self._books.phase}: {share:.2%} of a full sweep's images, worst bar {self._worst:.2%}, "
            f"up to {self._pace.left(self._waiting + self._later)} left"
        )

    def _say_why_all(self, book: Book) -> None:
        """Say once of a split why nothing can be saved on it."""
        if book.rounds.why_all and book.name not in self._explained:
            self._explained.add(book.name)
            self._ready.tell_whole(book.name, book.rounds.why_all)


def factor(share: float) -> str:
    """Return the share of a full sweep in words, such as `2.14 % of a full sweep's images (1/47)`."""
    return f"{share:.2%} of a full sweep's images (1/{1 / share:.3g})"
