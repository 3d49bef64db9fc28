"""Journals of sampled sweeps: what each rank's examples gave, and rank 0's plan of which examples come next.

Every rank appends to a file of its own beside the surface. The plan holds theta*'s losses, which fix the order of the
examples, and the rounds so far: a sweep that goes on where numbers round otherwise goes on in the same order.
"""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.files.records import Format, RecordFile, read_records
from landscape_mpi.metrics.base import ACCURACY
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface.shards import Shard

HEAD = struct.Struct("<IHHQQ")
"""Point, split, whether there are hits and twice the number of other metrics, first example, number of examples."""
LENGTH = struct.Struct("<H")
"""Bytes of a metric's name."""
NAME = re.compile(r"(shard-\d+-of-\d+\.)?rank-\d{5}\.journal")
PLAN_NAME = "plan.journal"
THETA = 2**32 - 1
"""The number of theta* in place of a point's."""
ORIGIN, ROUND = b"O", b"R"
"""How the records of a plan begin."""

Round = Sequence[tuple[int, int]]
"""The promotions of a round: points and their new levels."""


@dataclass(frozen=True)
class Evaluated:
    """What a slice of a split's examples gave at a point.

    Attributes:
        point: Number of the point in the grid, row by row.
        split: Number of the split.
        start: Place of the first example in the order in which examples are evaluated.
        found: What each example gave.
    """

    point: int
    split: int
    start: int
    found: PerExample

    def pack(self) -> bytes:
        """Return it as bytes: losses, hits one bit each, then every other metric under its name."""
        found, (hits,) = self.found, ACCURACY.results
        others = {name: values for name, values in found.others.items() if name != hits.name}
        known = (hits.name in found.others) + 2 * len(others)
        parts = [HEAD.pack(self.point, self.split, known, self.start, len(found)), _floats(found.losses)]
        if known % 2:
            parts.append(np.packbits(found.others[hits.name].astype(bool)).tobytes())
        for name, values in others.items():
            parts += [LENGTH.pack(len(name.encode())), name.encode(), _floats(values)]
        return b"".join(parts)

    @staticmethod
    def unpack(payload: bytes) -> "Evaluated":
        """Return it from bytes.

        Raises:
            ValueError: the bytes are not as long as they say.
        """
        if len(payload) < HEAD.size:
            raise ValueError("shorter than its head")
        point, split, known, start, count = HEAD.unpack_from(payload)
        end = HEAD.size

        def take(length: int) -> bytes:
            nonlocal end
            end += length
            if end > len(payload):
                raise ValueError("shorter than its head says")
            return payload[end - length : end]

        losses = np.frombuffer(take(8 * count), "<f8").astype(np.float64)
        others: dict[str, NDArray[np.generic]] = {}
        if known % 2:
            packed = np.frombuffer(take(-(-count // 8)), np.uint8)
            others[ACCURACY.results[0].name] = np.unpackbits(packed, count=count).astype(bool)
        for _ in range(known // 2):
            (length,) = LENGTH.unpack(take(LENGTH.size))
            name = take(length).decode()
            others[name] = np.frombuffer(take(8 * count), "<f8").astype(np.float64)
        if end < len(payload):
            raise ValueError("longer than its head says")
        return Evaluated(point, split, start, PerExample(losses, others))


def _floats(values: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(values, "<f8").tobytes()


def is_evaluated(payload: bytes) -> bool:
    """Whether bytes are as long as their head says."""
    try:
        Evaluated.unpack(payload)
    except ValueError:
        return False
    return True


JOURNAL = Format(b"landscape_mpi images 1\n", is_evaluated)


def journal_folder(surface: Path) -> Path:
    """Return the folder of a surface's journals: `surface.h5.examples`, or `surface.h5.images` where an old one is."""
    old = surface.with_name(surface.name + ".images")
    return old if old.is_dir() else surface.with_name(surface.name + ".examples")


class Journal(RecordFile):
    """A rank's journal, open for appending."""

    def __init__(self, folder: Path, rank: int, identity: bytes, shard: Shard | None = None) -> None:
        """Open or begin the journal of a rank.

        Args:
            folder: Of the surface's journals; made where it is absent.
            rank: Which journal.
            identity: The 32 bytes of the sweep it belongs to.
            shard: Of the ranks; shards keep their journals in one folder.

        Raises:
            UserError: the journal that is there belongs to another sweep.
        """
        super().__init__(folder / f"{_prefix(shard)}rank-{rank:05}.journal", JOURNAL, identity)

    def add(self, evaluated: Evaluated) -> None:
        """Add a record; once this returns it survives the death of any process."""
        self.append(evaluated.pack())


def read_journals(folder: Path, identity: bytes, shard: Shard | None = None) -> Iterator[Evaluated]:
    """Yield the whole records of all ranks, or those of a shard, rank by rank; nothing where there is no folder.

    Raises:
        UserError: a journal belongs to another sweep.
    """
    for path in journals(folder, shard):
        yield from map(Evaluated.unpack, read_records(path, JOURNAL, identity))


def journals(folder: Path, shard: Shard | None = None) -> list[Path]:
    """Return the journals of all ranks of all shards, or of the ranks of one."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in files if NAME.fullmatch(path.name) and path.name.startswith(_prefix(shard)))


def _prefix(shard: Shard | None) -> str:
    return f"{shard.slug}." if shard else ""


def discard(folder: Path, shard: Shard | None = None) -> None:
    """Remove a surface's journals and plan, or a shard's journals alone, and the folder where nothing is left."""
    plan = [] if shard else [folder / PLAN_NAME, *folder.glob(f".{PLAN_NAME}.*")]
    for path in [*journals(folder, shard), *plan]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@dataclass(frozen=True)
class Plan:
    """What a plan holds: theta*'s results of each split, and each split's rounds.

    `repeated`: how many rounds stood in the file once more, as versions before this one left them, and were dropped.
    """

    origins: tuple[Evaluated, ...]
    rounds: tuple[tuple[Round, ...], ...]
    repeated: int = 0


def is_of_plan(payload: bytes) -> bool:
    """Whether bytes are theta*'s results, or a round: `{"split": 0, "promotions": [[point, level], ...]}`."""
    if payload.startswith(ORIGIN):
        return is_evaluated(payload[1:])
    try:
        content: Any = json.loads(payload[1:])
        numbers = [content["split"], *(number for point, level in content["promotions"] for number in (point, level))]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return payload.startswith(ROUND) and all(type(number) is int and 0 <= number < THETA for number in numbers)


PLAN = Format(b"landscape_mpi plan 1\n", is_of_plan)


class PlanLog(RecordFile):
    """A plan, open for appending rounds."""

    def __init__(self, folder: Path, identity: bytes) -> None:
        """Open the file that `begin_plan` began.

        Raises:
            UserError: it belongs to another sweep.
        """
        super().__init__(folder / PLAN_NAME, PLAN, identity)

    def add(self, split: int, promotions: Round) -> None:
        """Add a round; once this returns it survives the death of any process."""
        self.append(ROUND + json.dumps({"split": split, "promotions": promotions}).encode())


def begin_plan(folder: Path, identity: bytes, origins: Sequence[Evaluated]) -> Plan:
    """Return the plan that is there, else begin one with theta*'s results of each split, whole or not at all.

    Raises:
        UserError: the plan that is there belongs to another sweep.
    """
    if found := read_plan(folder, identity):
        return found
    with in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # shards begin at once: the first one decides, so that all of them go by one order of the examples
        with atomic_write(folder / PLAN_NAME, replace=False) as aside, RecordFile(aside, PLAN, identity) as file:
            for origin in origins:
                file.append(ORIGIN + origin.pack())
    return read_plan(folder, identity) or Plan(tuple(origins), ((),) * len(origins))


def read_plan(folder: Path, identity: bytes) -> Plan | None:
    """Return the plan of a folder; None where there is none.

    Raises:
        UserError: it belongs to another sweep, or speaks of a split that it does not have.
    """
    payloads = list(read_records(folder / PLAN_NAME, PLAN, identity))
    origins = tuple(Evaluated.unpack(payload[1:]) for payload in payloads if payload.startswith(ORIGIN))
    rounds: list[list[Round]] = [[] for _ in origins]
    for payload in payloads:
        if payload.startswith(ROUND):
            content = json.loads(payload[1:])
            if content["split"] >= len(rounds):
                raise UserError(
                    folder / PLAN_NAME, f"speaks of split {content['split']}", expected=f"{len(rounds)} splits"
                )
            rounds[content["split"]].append([(point, level) for point, level in content["promotions"]])
    once = tuple(map(_without_repetitions, rounds))
    repeated = sum(map(len, rounds)) - sum(map(len, once))
    return Plan(origins, once, repeated) if origins else None


def _without_repetitions(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Return rounds without repetitions: a resumed run of an older version wrote the first rounds once more.

    No round is decided twice: a point only ever rises.
    """
    kept: list[Round] = []
    place = 0  # of the repetition
    for promotions in rounds:
        place = place if place < len(kept) and kept[place] == promotions else 0
        if place or promotions in kept[:1]:
            place += 1
        else:
            kept.append(promotions)
    return tuple(kept)
