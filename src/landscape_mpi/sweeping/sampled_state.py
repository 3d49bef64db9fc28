"""Keeps rank 0's state of a sampled sweep: which examples to evaluate next, what came back, and the estimates from it.

`SplitState` and `SampledState` know neither files nor ranks; `Coordinator` writes their estimates and shows progress.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.data.split import batches
from landscape_mpi.errors import Exit
from landscape_mpi.job import Sampling
from landscape_mpi.log import Pace, ProgressLine, log, noter
from landscape_mpi.metrics.base import LOSS, Metric
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.metrics.registry import BAR, EXAMPLES, STDERR, is_mean
from landscape_mpi.sampling import Audit, Promotion, Request, Rounds, Verdict, relative_bars
from landscape_mpi.sampling.order import Ints
from landscape_mpi.surface import DONE, FAILED, NOT_YET, AuditResult, Evaluated, PlanLog, WholeWriter, fitting
from landscape_mpi.surface.platforms import BY
from landscape_mpi.sweeping.context import SweepContext, some_failed
from landscape_mpi.sweeping.on_point import Told
from landscape_mpi.sweeping.pieces import BATCHES, Piece, PieceResult

OFTEN, SHARE = 10.0, 0.02
"""Estimates are written every 10 seconds within a round, or seldom enough to take no more than 2 % of the time."""


@dataclass
class SplitState:
    """One split: its rounds, then its audit."""

    name: str
    rounds: Rounds
    sampling: Sampling
    metrics: Sequence[Metric]
    audit: Audit | None = None

    @property
    def examples(self) -> int:
        """Examples of the split."""
        return self.rounds.ladder.frame.examples

    def next(self) -> tuple[Request, ...]:
        """Return the requests of the next round, then those of the audit and of what it leaves too wide, then none."""
        if self.audit is not None:
            return self.audit.complete()
        if requests := self.rounds.next():
            return requests
        self.audit = Audit(self.rounds, self.sampling.audit, self.sampling.seed)
        return self.audit.requests

    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return the estimates of every point [G], by the names of the surface's datasets."""
        source, results = self.audit or self.rounds, dict[str, NDArray[np.generic]]()
        for metric in self.metrics:
            for short, found in source.estimates(metric).items():
                name = f"{self.name}_{short}"
                results |= {name: found.means, f"{name}{STDERR}": found.errors, f"{name}{BAR}": found.bars}
                results[f"{self.name}{EXAMPLES}"] = found.examples
        return results


@dataclass
class _Outstanding:
    """A request that is being evaluated: the first places of its pieces, and what has come back of them."""

    request: Request
    wanted: set[int]
    parts: dict[int, Evaluated] = field(default_factory=dict)


class SampledState:
    """All splits of a surface, and the pieces that their requests are cut into."""

    def __init__(
        self, splits: Sequence[SplitState], batch: int, order: Sequence[int], stored: Iterable[Evaluated] = ()
    ) -> None:
        """Begin a run.

        Args:
            splits: In the order of the job.
            batch: Examples at a time.
            order: The numbers of this run's points, in the order in which they are evaluated.
            stored: What the journals of an earlier run hold.
        """
        self.splits = splits
        self._batch = batch
        self._place = {point: place for place, point in enumerate(order)}
        self._stored = {(one.split, one.point, one.start): one for one in stored}
        self._open: dict[tuple[int, int], _Outstanding] = {}
        self._begun = False

    def next(self, decided: Callable[[int, tuple[Promotion, ...]], None]) -> list[Piece]:
        """Return what to evaluate now, coarse to fine; nothing at the end.

        What an earlier run has evaluated is taken from what is stored. `decided` is called with every round of a split
        that no earlier run has decided, before anything of it is handed out.
        """
        while pieces := list(self._cut(decided)):
            if missing := self._missing(pieces):
                return missing
        return []

    def first_level(self) -> list[Piece]:
        """Return what this run's points lack of the first level, once: a shard does this, and decides no round."""
        if self._begun:
            return []
        self._begun = True
        return self._missing([piece for piece in self._cut(lambda *_: None) if piece.point in self._place])

    def take(self, evaluated: Evaluated) -> None:
        """Take what a piece gave; nothing is done with it where the point has been given up."""
        key = evaluated.split, evaluated.point
        if key not in self._open:
            return
        entry = self._open[key]
        entry.parts[evaluated.start] = evaluated
        if entry.wanted == set(entry.parts):
            del self._open[key]
            parts = [entry.parts[start] for start in sorted(entry.parts)]
            split = self.splits[evaluated.split]
            (split.audit or split.rounds).take(entry.request, PerExample.join([part.found for part in parts]))

    def give_up(self, piece: Piece) -> None:
        """Give up the point of a piece and the rest of its request; an audit then has one point fewer."""
        split = self.splits[piece.split]
        entry = self._open.pop((piece.split, piece.point), None)
        if entry and split.audit is None:
            split.rounds.lose(entry.request)

    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return the estimates of every point [G], by the names of the surface's datasets."""
        return {name: values for split in self.splits for name, values in split.results().items()}

    @property
    def verdict(self) -> Verdict | None:
        """What the audits of all splits found together; None where one is not finished or there is none."""
        found = [split.audit.verdict for split in self.splits if split.audit is not None]
        if len(found) < len(self.splits) or not self.splits[0].sampling.audit:
            return None
        return Verdict(
            points=sum(one.points for one in found),
            misses=sum(one.misses for one in found),
            allowed=sum(one.allowed for one in found),
            worst=max(one.worst for one in found),
            farthest=max(one.farthest for one in found),
            passed=all(one.passed for one in found),
            widened=max(one.widened for one in found),
        )

    @property
    def used(self) -> float:
        """Share of a full sweep's evaluations that the rounds have taken so far."""
        return self._share([split.rounds.used for split in self.splits])

    @property
    def audited(self) -> float:
        """Share of a full sweep's evaluations that the audit has taken so far."""
        return self._share([split.audit.used if split.audit else 0.0 for split in self.splits])

    @property
    def rounds(self) -> int:
        """Rounds so far, of the split that has had most."""
        return max(len(split.rounds.log) for split in self.splits)

    @property
    def phase(self) -> str:
        """What is evaluated now, in the split that is farthest behind."""
        if all(split.audit for split in self.splits):
            return "audit"
        return f"round {self.rounds}" if self.rounds else "first level"

    def _share(self, shares: Sequence[float]) -> float:
        """Return the mean of the splits' shares, each weighted by the number of its examples."""
        examples = [split.examples for split in self.splits]
        return sum(n * share for n, share in zip(examples, shares, strict=True)) / sum(examples)

    def _cut(self, decided: Callable[[int, tuple[Promotion, ...]], None]) -> Iterator[Piece]:
        """Cut the next requests of every split into pieces of whole batches: no bit depends on the ranks."""
        for number, split in enumerate(self.splits):
            known = len(split.rounds.log)
            requests = split.next()
            for promotions in split.rounds.log[max(known, split.rounds.repeated) :]:
                decided(number, promotions)
            for request in requests:
                first = request.start
                cuts = batches(request.stop - first, BATCHES * self._batch)
                pieces = [Piece(number, request.point, first + cut.start, first + cut.stop) for cut in cuts]
                self._open[number, request.point] = _Outstanding(request, {piece.start for piece in pieces})
                yield from pieces

    def _missing(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Take the pieces that are stored, and return the others, coarse to fine."""
        missing = []
        for piece in pieces:
            stored = self._stored.pop((piece.split, piece.point, piece.start), None)
            others = self.splits[piece.split].rounds.others
            if stored is not None and len(stored.found) == piece.examples and stored.found.others.keys() == others:
                self.take(stored)
            else:
                missing.append(piece)
        return sorted(missing, key=lambda piece: self._place[piece.point])


def known(results: Mapping[str, NDArray[np.generic]]) -> NDArray[np.bool_]:
    """Return which points [G] have an estimate of every mean loss; other metrics have theirs at the same points."""
    bars = [results[f"{name}{BAR}"] for name in results if is_mean(name, LOSS)]
    return np.all([np.isfinite(values) for values in bars], axis=0)  # type: ignore[no-any-return]


def worst_bar(results: Mapping[str, NDArray[np.generic]], scales: Mapping[str, tuple[float, float]]) -> float:
    """Return the largest relative bar of a loss that is known; 0 where none is; `scales`: of each split's rounds."""
    losses = [(name, *scales[name.rpartition("_")[0]]) for name in results if is_mean(name, LOSS)]
    relative = [relative_bars(results[name] - centre, results[f"{name}{BAR}"], low) for name, centre, low in losses]  # type: ignore[arg-type, operator]
    finite = np.concatenate([values[np.isfinite(values)] for values in relative])
    return float(finite.max(initial=0.0))


class Coordinator:
    """Rank 0 of a sampled sweep: hands out pieces, takes results, writes estimates into the file, shows progress."""

    def __init__(
        self, context: SweepContext, state: SampledState, writer: WholeWriter, plan_log: PlanLog | None, identity: bytes
    ) -> None:
        """Take what `sampled` has opened; `identity` is that of the ranks' journals, and a shard has no plan log."""
        self.identity = identity
        self._context, self._state, self._writer, self._plan_log = context, state, writer, plan_log
        # who computed a point; old files have no platforms
        self._work = {
            name: writer.read(name).reshape(-1) for name in ("seconds", "rank", "error", BY) if writer.has(name)
        }
        status = writer.read("status")
        self._work["error"][status.reshape(-1) == FAILED] = b""  # they are tried again
        self._shown = int((status == DONE).sum())
        self._begun = False
        # a shard's file has nothing of the points that all shards evaluate first
        self._mine = np.zeros(context.job.chosen_grid.shape, bool)
        self._mine[tuple(np.transpose(context.points))] = True
        self._mine = self._mine.ravel()
        self._worst, self._waiting, self._later = 0.0, 0, 0
        self._next_write = time.monotonic() + OFTEN
        self._line, self._pace = ProgressLine(), Pace()
        self._explained: set[str] = set()
        self._note = noter(context.world)
        self._failures: dict[int, str] = {}
        self._told = Told()

    @property
    def orders(self) -> dict[str, Ints]:
        """The examples of each split in the order in which they are evaluated."""
        return {split.name: split.rounds.ladder.frame.order for split in self._state.splits}

    @property
    def given_up(self) -> Collection[int]:
        """The numbers of the points that are given up."""
        return self._failures.keys()

    def next_pieces(self) -> list[Piece]:
        """Write the estimates, decide what is next and return it; nothing at the end."""
        if self._begun:
            self._write()
            self._line.show(self._text, last=True)
        state, splits = self._state, self._state.splits
        pieces = state.first_level() if self._plan_log is None else state.next(self._plan_log.add)
        self._waiting = sum(piece.examples for piece in pieces)
        if self._plan_log is not None:  # about how many examples come after this round, the audit included
            unaudited = [split for split in splits if split.audit is None]
            self._later = sum(split.sampling.audit * split.examples for split in unaudited)
            self._later += sum(split.rounds.outlook for split in unaudited if split.rounds.log)
        for split in splits:
            if split.rounds.why_all and split.name not in self._explained:
                self._explained.add(split.name)
                self._context.log_all_examples(split.name, split.rounds.why_all)
            if split.audit and split.audit.completions:
                wide = f"{len(split.audit.completions):,} of {len(self._mine):,} bars wider than the target"
                self._note(f"{split.name}: the audit leaves {wide}; all examples are evaluated there.")
        self._begun = True
        return pieces

    def arrived(self, result: PieceResult) -> None:
        """Take what a piece gave, from any rank."""
        examples, point = len(result.evaluated.found), result.evaluated.point
        self._state.take(result.evaluated)
        self._work["seconds"][point] = np.nansum([self._work["seconds"][point], result.seconds])
        self._work["rank"][point] = result.rank
        if self._context.platforms:
            self._work[BY][point] = self._context.platforms[result.rank]
        if result.note:
            self._work["error"][point] = fitting(result.note)
        self._pace.count(examples)
        self._waiting -= examples
        self._line.show(self._text)
        if time.monotonic() > self._next_write:
            self._write()
            if self._writer.name_lost:
                self._context.experiment.stop.limit(0)

    def failed(self, piece: Piece, text: str) -> None:
        """Give up the point of a piece that raised twice, or at which ranks died twice."""
        self._state.give_up(piece)
        self._failures[piece.point] = text

    def end(self, complete: bool) -> Exit:
        """Write the last estimates; if all is done, write what the audit found and mark the surface complete."""
        self._write()
        if not complete:
            return Exit.RUN_AGAIN
        if self._failures:
            return some_failed(self._context, list(self._failures.values()))
        state, path, verdict = self._state, self._context.path, self._state.verdict
        audit = None
        if verdict is not None:
            found = (verdict.points, verdict.misses, verdict.worst, verdict.passed, verdict.farthest, verdict.widened)
            audit = AuditResult(*found)
        self._writer.finish(state.rounds, audit)
        if shard := self._context.identity.shard:
            lines = [
                f"{path}: the first level of shard {shard} is complete, with bars of up to {self._worst:.2%}.",
                "Once all shards are, go on without --shard: the rounds need the first level of all points.",
            ]
        else:
            within = self._worst <= state.splits[0].rounds.error
            bars = "every bar within its target" if within else f"with bars of up to {self._worst:.2%}"
            lines = [f"{path}: complete, {bars}, {factor(state.used)}, in {state.rounds} rounds."]
            if verdict is not None and audit is not None:
                lines.append(f"{path}: audit: {audit.words}; with it {factor(state.used + state.audited)}.")
            lines.append(f"Draw it: landscape-plot {path}")
        for line in lines:
            log(self._context.world, line)
        return Exit.COMPLETE if verdict is None or verdict.passed else Exit.FAILED_POINTS

    def _write(self) -> None:
        """Write all estimates, unless fewer points have one than the file shows, as after a restart."""
        started = time.monotonic()
        results = self._state.results()
        there = known(results) & self._mine
        self._worst = worst_bar(results, {split.name: split.rounds.scale for split in self._state.splits})
        if there.sum() >= max(self._shown, 1):
            self._shown = int(there.sum())
            shape = self._context.job.chosen_grid.shape
            status = np.where(there, DONE, NOT_YET).astype(np.uint8)
            for point, text in self._failures.items():
                self._work["error"][point] = fitting(text)
                if not there[point]:
                    status[point] = FAILED
            shaped: dict[str, NDArray[np.generic]] = {
                name: values.reshape(shape) for name, values in {**results, **self._work}.items()
            }
            self._writer.write(shaped, status.reshape(shape))
            if self._context.options.on_point is not None:
                for point in self._told.changed(results, there):
                    values = {name: values[point].item() for name, values in results.items()}
                    index = tuple(int(i) for i in np.unravel_index(point, shape))
                    self._context.tell(index, values, self._shown)
        now = time.monotonic()
        self._next_write = now + max(OFTEN, (now - started) / SHARE)

    def _text(self, _: float) -> str:
        """Return e.g. `round 3: 2.14% of a full sweep's examples, worst bar 7.3%, up to 1:16 left`."""
        share = self._state.used + self._state.audited
        return (
            f"{self._state.phase}: {share:.2%} of a full sweep's examples, worst bar {self._worst:.2%}, "
            f"up to {self._pace.left(self._waiting + self._later)} left"
        )


def factor(share: float) -> str:
    """Return the share of a full sweep in words, such as `2.14 % of a full sweep's examples (1/47)`."""
    return f"{share:.2%} of a full sweep's examples (1/{1 / share:.3g})"
