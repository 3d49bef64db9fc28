"""Keeps what is evaluated before the examples have an order: theta*'s own losses, and those that set the axes' ends.

Both may take minutes for a large network. They stand in journals of their own beside the surface: a run that is stopped
or killed goes on with what was there, and so does another shard that begins later.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from landscape_mpi.data.split import batches
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.surface import THETA, Evaluated, Journal, Kind, Shard, discard_early, read_early

AT_ONCE = 8
"""The most batches that are kept together: a killed run loses at most so many of each rank."""


class Kept:
    """What some points give on slices of the examples, each evaluated once; all ranks call each method together."""

    def __init__(
        self,
        world: World,
        folder: Path,
        identity: bytes,
        kind: Kind,
        *,
        shard: Shard | None = None,
        team: int = 1,
        fresh: bool = False,
    ) -> None:
        """Read what is there; this rank's journal begins when the rank first keeps something.

        Args:
            world: The ranks.
            folder: The folder of the surface's journals.
            identity: The 32 bytes by which the journals are known; those of another sweep are replaced.
            kind: What the journals are of.
            shard: The shard of this run.
            team: How many consecutive ranks evaluate together.
            fresh: Whether what is there is removed first; a shard removes only its own.

        Raises:
            UserError: on every rank, where the system refuses.
        """
        self._world, self._team = world, team
        self._known: dict[tuple[int, int], dict[int, PerExample]] = {}
        if fresh:
            on_root(world, discard_early, folder, kind, shard)
        for one in world.bcast(on_ranks(world, world.rank == 0, _read, folder, identity, kind)) or ():
            self._known.setdefault((one.point, one.split), {})[one.start] = one.found
        self._held, self._keeps = ExitStack(), world.rank % team == 0
        self._journal: Journal | None = None
        self._begin = partial(Journal, folder, world.rank, identity, shard, kind=kind)

    @property
    def examples(self) -> int:
        """How many evaluations of an example are known."""
        return sum(len(found) for slices in self._known.values() for found in slices.values())

    def fill(
        self, point: int, split: int, places: slice, batch: int, evaluate: Callable[[slice], PerExample]
    ) -> PerExample:
        """Return what a point gives at consecutive places, evaluated where it is not known; collective.

        Ranks, or teams of them, share whole batches, and what is kept ends where a batch does. So no bit depends on
        how many ranks there are, nor on what was known before.
        """
        known = self._known.setdefault((point, split), {})
        missing = self._missing(known, places, batch)
        first, groups = self._world.rank // self._team, self._world.size // self._team
        found: list[tuple[int, PerExample]] = []

        def work() -> None:
            for cut in missing[first::groups]:
                found.append((cut.start, evaluate(cut)))
                if self._keeps:
                    self._add(Evaluated(point, split, *found[-1]))

        together(self._world, work)
        for part in self._world.allgather(found)[:: self._team]:
            known.update(part)
        parts, at = [], places.start
        while at < places.stop:
            parts.append(known[at])
            at += len(known[at])
        return PerExample.join(parts)

    def put(self, point: int, split: int, found: PerExample) -> None:
        """Keep what a point gives on all examples of a split, where it is not known."""
        known = self._known.setdefault((point, split), {})
        if self._world.rank == 0 and sum(map(len, known.values())) < len(found):
            self._add(Evaluated(point, split, 0, found))
        known[0] = found

    def _add(self, evaluated: Evaluated) -> None:
        if self._journal is None:
            self._journal = self._held.enter_context(self._begin())
        self._journal.add(evaluated)

    def whole(self, sizes: Mapping[str, int], point: int = THETA) -> dict[str, PerExample] | None:
        """Return what a point gives on all examples of every split, by its name; None where not all of it is known."""
        found = {}
        for split, (name, size) in enumerate(sizes.items()):
            known, parts, at = self._known.get((point, split), {}), list[PerExample](), 0
            while at in known and at < size:
                parts.append(known[at])
                at += len(known[at])
            if at != size:
                return None
            found[name] = PerExample.join(parts)
        return found

    def _missing(self, known: dict[int, PerExample], places: slice, batch: int) -> Sequence[slice]:
        """Return the cuts of whole batches that are to be evaluated; forget what does not fit between them."""
        for start in [start for start in known if start < places.stop < start + len(known[start])]:
            del known[start]
        missing, at = list[slice](), places.start
        while at < places.stop:
            if at in known:
                at += len(known[at])
                continue
            end = min([start for start in known if start > at] + [places.stop])
            each = (end - at) // (batch * (self._world.size // self._team))  # few, so that every rank has some
            cuts = batches(end - at, max(1, min(each, AT_ONCE)) * batch)
            missing += [slice(at + cut.start, at + cut.stop) for cut in cuts]
            at = end
        return missing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


def _read(folder: Path, identity: bytes, kind: Kind) -> list[Evaluated]:
    return list(read_early(folder, identity, kind))
