"""What decides which images are evaluated where: theta*'s losses and the rounds so far; rank 0's file, no HDF5.

The losses at theta* fix the order of the images, so they are kept with the journals that speak of places in it: a
sweep that goes on where numbers round otherwise goes on in the same order.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.files.records import Kind, RecordFile, read_records
from landscape_mpi.surface.journal import Evaluated, journals, pack, sound, unpack
from landscape_mpi.surface.shards import Shard

MAGIC = b"landscape_mpi plan 1\n"
NAME = "plan.journal"
THETA = 2**32 - 1
"""The number of theta* in place of a point's."""
ORIGIN, ROUND = b"O", b"R"

Round = Sequence[tuple[int, int]]
"""The promotions of a round: points and their new levels."""


@dataclass(frozen=True)
class Plan:
    """What a plan log holds: theta*'s results of each split, and each split's rounds.

    `repeated`: how many rounds stood in the log once more, as versions before this one left them, and were dropped.
    """

    origins: tuple[Evaluated, ...]
    rounds: tuple[tuple[Round, ...], ...]
    repeated: int = 0


class PlanLog(RecordFile):
    """A plan log, open for appending."""

    def __init__(self, folder: Path, identity: bytes) -> None:
        """Open the log that `begin_plan` began.

        Raises:
            UserError: it belongs to another sweep.
        """
        super().__init__(folder / NAME, KIND, identity)

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
        # shards begin at once: the first one decides, so that all of them go by one order of the images
        with atomic_write(folder / NAME, replace=False) as aside, RecordFile(aside, KIND, identity) as file:
            for origin in origins:
                file.append(ORIGIN + pack(origin))
    return read_plan(folder, identity) or Plan(tuple(origins), ((),) * len(origins))


def read_plan(folder: Path, identity: bytes) -> Plan | None:
    """Return the plan of a folder; None where there is none.

    Raises:
        UserError: it belongs to another sweep, or speaks of a split that it does not have.
    """
    payloads = list(read_records(folder / NAME, KIND, identity))
    origins = tuple(unpack(payload[1:]) for payload in payloads if payload.startswith(ORIGIN))
    rounds: list[list[Round]] = [[] for _ in origins]
    for payload in payloads:
        if payload.startswith(ROUND):
            content = json.loads(payload[1:])
            if content["split"] >= len(rounds):
                raise UserError(
                    f"{folder / NAME}", f"speaks of split {content['split']}", expected=f"{len(rounds)} splits"
                )
            rounds[content["split"]].append([(point, level) for point, level in content["promotions"]])
    once = tuple(map(_once, rounds))
    repeated = sum(map(len, rounds)) - sum(map(len, once))
    return Plan(origins, once, repeated) if origins else None


def _once(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Return rounds without those that a run which went on wrote once more: the first ones in their order.

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


def discard(folder: Path, shard: Shard | None = None) -> None:
    """Remove a surface's journals and plan, or a shard's journals alone, and the folder where nothing is left."""
    plan = [] if shard else [folder / NAME, *folder.glob(f".{NAME}.*")]
    for path in [*journals(folder, shard), *plan]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _sound(payload: bytes) -> bool:
    return sound(payload[1:]) if payload.startswith(ORIGIN) else payload.startswith(ROUND) and _is_round(payload[1:])


def _is_round(text: bytes) -> bool:
    try:
        content: Any = json.loads(text)
        promotions = content["promotions"]
        return _is_count(content["split"]) and all(_is_count(a) and _is_count(b) for a, b in promotions)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < THETA


KIND = Kind(MAGIC, _sound)
