"""The books of a sampled sweep, on rank 0: what to evaluate next, what came back, what is known; no file, no rank."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.job import Sampling
from landscape_mpi.sampling import (
    Audit,
    Estimated,
    Frame,
    PerImage,
    Promotion,
    Request,
    Rounds,
    Verdict,
    all_images_because,
    in_order,
    make_frame,
    relative_bars,
)
from landscape_mpi.surface import Evaluated
from landscape_mpi.sweeping.slices import Found, Piece, cut

Key = tuple[int, int, int]
"""Split, point and first place of a piece."""


def frame_of(losses: NDArray[np.float64], labels: NDArray[np.int64] | None, sampling: Sampling, split: int) -> Frame:
    """Return a split's images in the order in which they are evaluated; as they are where all of them will be."""
    if all_images_because(sampling.error, len(losses)):
        return in_order(len(losses))
    return make_frame(losses, labels, sampling.seed, stream=split)


@dataclass
class Book:
    """One split: its rounds, then its audit."""

    name: str
    rounds: Rounds
    sampling: Sampling
    audit: Audit | None = None

    def next(self) -> tuple[Request, ...]:
        """Return the requests of the next round, then those of the audit, then none."""
        if self.audit is not None:
            return ()
        if requests := self.rounds.next():
            return requests
        self.audit = Audit(self.rounds, self.sampling.audit, self.sampling.seed)
        return self.audit.requests

    def take(self, request: Request, found: PerImage) -> None:
        """Take what a request gave."""
        (self.audit or self.rounds).take(request, found.losses, found.hits)

    def lose(self, request: Request) -> None:
        """Give up a request that failed; of an audit it is one point less to look at."""
        if self.audit is None:
            self.rounds.lose(request)

    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return what is known of every point [G], by the names of the surface's datasets."""
        source = self.audit or self.rounds
        loss = source.loss()
        accuracy = source.accuracy() if self.rounds.has_hits else None
        named = {f"{self.name}_images": loss.images, **_named(f"{self.name}_loss", loss)}
        return named if accuracy is None else {**named, **_named(f"{self.name}_acc", accuracy)}


@dataclass
class _Open:
    """A request on its way: the pieces that it was cut into, by their first places, and what came back of them."""

    request: Request
    wanted: set[int]
    parts: dict[int, Evaluated] = field(default_factory=dict)

    @property
    def whole(self) -> PerImage:
        parts = [self.parts[start] for start in sorted(self.parts)]
        hits = [part.hits for part in parts if part.hits is not None]
        losses = np.concatenate([part.losses for part in parts])
        return PerImage(losses, np.concatenate(hits) if hits else None)


class Books:
    """What all splits know; `stored` is what journals of an earlier run hold."""

    def __init__(
        self, books: Sequence[Book], batch: int, order: Sequence[int], stored: Iterable[Evaluated] = ()
    ) -> None:
        """Take the splits' books, the batch, and the points of this run in the order in which they are visited."""
        self.books = books
        self._batch = batch
        self._place = {point: place for place, point in enumerate(order)}
        self._stored: dict[Key, Evaluated] = {(one.split, one.point, one.start): one for one in stored}
        self._open: dict[tuple[int, int], _Open] = {}
        self._begun = False

    def next(self, decided: Callable[[int, tuple[Promotion, ...]], None]) -> list[Piece]:
        """Return what to evaluate now, coarse to fine; nothing at the end.

        What an earlier run has evaluated is taken from what is stored. `decided` hears of every round of a split
        that no earlier run has decided, before anything of it is handed out.
        """
        while pieces := list(self._cut(decided)):
            if missing := self._missing(pieces):
                return missing
        return []

    def first_level(self) -> list[Piece]:
        """Return what this run's points lack of the first level, once: a shard's work, which decides nothing."""
        if self._begun:
            return []
        self._begun = True
        return self._missing([piece for piece in self._cut(_nothing) if piece.point in self._place])

    def arrived(self, found: Found) -> None:
        """Take what a piece gave."""
        self._take(found.evaluated)

    def lose(self, piece: Piece) -> None:
        """Give up the point of a piece that failed, and what else comes of the same request."""
        if entry := self._open.pop((piece.split, piece.point), None):
            self.books[piece.split].lose(entry.request)

    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return what is known of every point [G], by the names of the surface's datasets."""
        return {name: values for book in self.books for name, values in book.results().items()}

    @property
    def verdict(self) -> Verdict | None:
        """What the audits of all splits found together; None where none is finished or there was none."""
        found = [book.audit.verdict for book in self.books if book.audit is not None]
        return combined(found) if len(found) == len(self.books) and self.books[0].sampling.audit else None

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that the rounds have taken so far."""
        return _share(self.books, lambda book: book.rounds.used)

    @property
    def audited(self) -> float:
        """Share of a full sweep's evaluations that the audit has taken so far."""
        return _share(self.books, lambda book: book.audit.used if book.audit else 0.0)

    @property
    def rounds(self) -> int:
        """Rounds so far, of the split that has had most."""
        return max(len(book.rounds.log) for book in self.books)

    @property
    def phase(self) -> str:
        """What is going on, in the split that is farthest behind."""
        if all(book.audit for book in self.books):
            return "audit"
        return f"round {self.rounds}" if self.rounds else "first level"

    def _cut(self, decided: Callable[[int, tuple[Promotion, ...]], None]) -> Iterator[Piece]:
        """Ask every split what it wants next and cut that into pieces."""
        for split, book in enumerate(self.books):
            known = len(book.rounds.log)
            requests = book.next()
            for promotions in book.rounds.log[max(known, book.rounds.repeated) :]:
                decided(split, promotions)
            for request in requests:
                pieces = cut(split, request, self._batch)
                self._open[split, request.point] = _Open(request, {piece.start for piece in pieces})
                yield from pieces

    def _missing(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Return the pieces that are not stored, coarse to fine."""
        missing = [piece for piece in pieces if not self._recall(piece)]
        return sorted(missing, key=lambda piece: self._place[piece.point])

    def _recall(self, piece: Piece) -> bool:
        """Take a piece from what is stored; return whether it is there."""
        stored = self._stored.pop((piece.split, piece.point, piece.start), None)
        if stored is None or len(stored.losses) != piece.stop - piece.start:
            return False
        if (stored.hits is not None) != self.books[piece.split].rounds.has_hits:
            return False
        self._take(stored)
        return True

    def _take(self, evaluated: Evaluated) -> None:
        key = evaluated.split, evaluated.point
        if key not in self._open:  # the point has been given up
            return
        entry = self._open[key]
        entry.parts[evaluated.start] = evaluated
        if entry.wanted == set(entry.parts):
            del self._open[key]
            self.books[evaluated.split].take(entry.request, entry.whole)


def _nothing(_: int, __: tuple[Promotion, ...]) -> None:
    """Hear of no round: there is none in the first level."""


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """Return what several audits found, as one."""
    return Verdict(
        points=sum(one.points for one in verdicts),
        misses=sum(one.misses for one in verdicts),
        allowed=sum(one.allowed for one in verdicts),
        worst=max(one.worst for one in verdicts),
        farthest=max(one.farthest for one in verdicts),
        passed=all(one.passed for one in verdicts),
    )


def known(results: Mapping[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Return which points [G] have an estimate of every mean."""
    bars = [values for name, values in results.items() if name.endswith("_bar")]
    return np.all([np.isfinite(values) for values in bars], axis=0)  # type: ignore[no-any-return]


def worst_bar(results: Mapping[str, NDArray[np.generic]]) -> float:
    """Return the largest relative bar of a loss that is known; 0 where none is."""
    names = [name.removesuffix("_bar") for name in results if name.endswith("_loss_bar")]
    relative = [relative_bars(results[name], results[f"{name}_bar"]) for name in names]  # type: ignore[arg-type]
    finite = np.concatenate([values[np.isfinite(values)] for values in relative])
    return float(finite.max(initial=0.0))


def _named(name: str, found: Estimated) -> dict[str, NDArray[np.generic]]:
    return {name: found.means, f"{name}_stderr": found.errors, f"{name}_bar": found.bars}


def _share(books: Sequence[Book], of: Callable[[Book], float]) -> float:
    """Return the mean over the splits' images of a share of each."""
    images = [book.rounds.ladder.frame.images for book in books]
    return sum(n * of(book) for n, book in zip(images, books, strict=True)) / sum(images)
