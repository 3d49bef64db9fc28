"""The plan of a sampled sweep: a file of rank 0 that says which examples come next, beside the ranks' journals.

It holds theta*'s losses, which fix the order of the examples, and the rounds so far. A sweep that goes on where numbers
are rounded differently therefore goes on in the same order.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import atomic_write, in_words
from landscape_mpi.surface.journal import THETA, Evaluated, Format, RecordFile, is_evaluated, journals, read_records
from landscape_mpi.surface.shards import Shard

PLAN_NAME = "plan.journal"
ORIGIN, ROUND = b"O", b"R"
"""How the records of a plan begin."""

Round = Sequence[tuple[int, int]]
"""The promotions of a round: points and their new levels."""


@dataclass(frozen=True)
class Plan:
    """What a plan holds: theta*'s results of each split, and each split's rounds.

    Attributes:
        origins: What theta* gave, split by split.
        rounds: Of each split.
        repeated: How many rounds were in the file a second time, as versions before this one left them, and were
            dropped.
        pilots: What other points gave that were evaluated on all examples before there was an order.
        firsts: For each split, the number of examples of its first level where a trial has chosen it; else None.
        own: The point at which theta* lies, which is then not evaluated; None where there is none, and in plans of
            older versions.
    """

    origins: tuple[Evaluated, ...]
    rounds: tuple[tuple[Round, ...], ...]
    repeated: int = 0
    pilots: tuple[Evaluated, ...] = ()
    firsts: tuple[int | None, ...] = ()
    own: int | None = None


def is_of_plan(payload: bytes) -> bool:
    """Whether bytes are a point's results on all examples, or a round: `{"split": 0, "promotions": [[7, 1], ...]}`.

    The first level of a split, `{"split": 0, "promotions": [], "first": 800}`, and theta*'s own point,
    `{"split": 0, "promotions": [], "own": 12}`, come before the rounds.
    """
    if payload.startswith(ORIGIN):
        return is_evaluated(payload[1:])
    try:
        content: Any = json.loads(payload[1:])
        numbers = [
            content["split"],
            content.get("first", 0),
            content.get("own", 0),
            *(number for point, level in content["promotions"] for number in (point, level)),
        ]
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


def begin_plan(
    folder: Path,
    identity: bytes,
    origins: Sequence[Evaluated],
    pilots: Sequence[Evaluated] = (),
    firsts: Sequence[int | None] = (),
    own: int | None = None,
) -> Plan:
    """Return the plan that is there, else begin one with what precedes its rounds, whole or not at all.

    See `Plan` for `origins`, `pilots`, `firsts` and `own`.

    Raises:
        UserError: the plan that is there belongs to another sweep.
    """
    if found := read_plan(folder, identity):
        return found
    with in_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # shards begin at the same time: the first one decides, so that all of them follow one order of the examples
        with atomic_write(folder / PLAN_NAME, replace=False) as aside, RecordFile(aside, PLAN, identity) as file:
            for origin in (*origins, *pilots):
                file.append(ORIGIN + origin.pack())
            for split, first in enumerate(firsts):
                if first is not None:
                    file.append(ROUND + json.dumps({"split": split, "promotions": [], "first": first}).encode())
            if own is not None:
                file.append(ROUND + json.dumps({"split": 0, "promotions": [], "own": own}).encode())
    there = read_plan(folder, identity)
    return there or Plan(tuple(origins), ((),) * len(origins), 0, tuple(pilots), tuple(firsts), own)


def read_plan(folder: Path, identity: bytes) -> Plan | None:
    """Return the plan of a folder; None where there is none.

    Raises:
        UserError: it belongs to another sweep, or names a split that it does not have.
    """
    payloads = list(read_records(folder / PLAN_NAME, PLAN, identity))
    whole = [Evaluated.unpack(payload[1:]) for payload in payloads if payload.startswith(ORIGIN)]
    origins = tuple(one for one in whole if one.point == THETA)
    rounds: list[list[Round]] = [[] for _ in origins]
    firsts: list[int | None] = [None for _ in origins]
    own: int | None = None
    for payload in payloads:
        if payload.startswith(ROUND):
            content = json.loads(payload[1:])
            if content["split"] >= len(rounds):
                raise UserError(
                    folder / PLAN_NAME, f"speaks of split {content['split']}", expected=f"{len(rounds)} splits"
                )
            if "first" in content:
                firsts[content["split"]] = content["first"]
                continue
            if "own" in content:
                own = content["own"]
                continue
            rounds[content["split"]].append([(point, level) for point, level in content["promotions"]])
    once = tuple(map(_without_repetitions, rounds))
    repeated = sum(map(len, rounds)) - sum(map(len, once))
    pilots = tuple(one for one in whole if one.point != THETA)
    return Plan(origins, once, repeated, pilots, tuple(firsts), own) if origins else None


def _without_repetitions(rounds: Sequence[Round]) -> tuple[Round, ...]:
    """Return rounds without repetitions: a resumed run of an older version wrote the first rounds once more.

    No round is decided twice, because the level of a point only ever rises.
    """
    kept: list[Round] = []
    place = 0  # the next place in the repetition
    for promotions in rounds:
        place = place if place < len(kept) and kept[place] == promotions else 0
        if place or promotions in kept[:1]:
            place += 1
        else:
            kept.append(promotions)
    return tuple(kept)


def discard(folder: Path, shard: Shard | None = None) -> None:
    """Remove a surface's journals and plan, or a shard's journals alone, and the folder where nothing is left.

    For a shard, the plan and the results of the pilots stay, because other shards may use them.
    """
    plan = [] if shard else [folder / PLAN_NAME, *folder.glob(f".{PLAN_NAME}.*"), *journals(folder, kind="pilots")]
    for path in [*journals(folder, shard), *plan]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
