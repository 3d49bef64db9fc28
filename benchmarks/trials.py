"""One trial of `faults.py`: a sweep or a merge that is killed, looked at, and run again on other ranks."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch
from evidence import Sight, dumps, fingerprint, look
from frail import network
from killing import ALL, GONE, LAUNCHER, ONE, Victim, kill

HERE = Path(__file__).resolve().parent
WAYS = ("parallel", "root writes", "sampled", "merge")
DELAYS = {"creation": 0.02, "sweep": 0.02, "close": 0.1}
"""Phases to aim at; seconds after their beginning, or after a share of the points, within which the kill comes."""
SLOW = {"FRAIL_SLEEP": "0.003"}
PATIENCE = 300.0
"""Seconds until a run after the kill counts as hung."""
SHARDS = 3
JOB = """\
model: {build: "frail:network", checkpoint: net.pt}
data: {build: "frail:data"}
loss: "frail:cross_entropy"
plane: {kind: random, seed: 3}
grid: {alpha: [-1, 1, 7], beta: [-0.5, 1, 5]}
output: {file: surface.h5}
"""
SAMPLING = "sampling: {error: 0.05, audit: 4}\n"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; `phase` is where the kill fell, `wrong` says what was not as undisturbed."""

    way: str
    kind: str
    phase: str
    ranks: int
    again: int
    seen: int
    lost: int
    wrong: str
    hung: bool
    seconds: float
    ended: float = 0.0
    """Seconds from the kill until no process of the run was left."""
    code: int | None = None
    """The exit code of the run that was killed."""
    told: int = 0
    """Sentences that begin with `error: ` in what it said."""


class Range:
    """The jobs, their undisturbed results, and shards to merge, in a folder."""

    def __init__(self, folder: Path, ways: Iterable[str] = WAYS) -> None:
        """Run every way once without a kill."""
        self.folder, self.expected, self.whole = folder, {}, {}
        self.seconds: dict[str, float] = {}
        for way in ways:
            place = folder / way
            _prepare(place, way)
            if way == "merge":
                for shard in range(SHARDS):
                    _finish(place, ["sweep", "job.yaml", "--shard", f"{shard}/{SHARDS}"], {})
            _finish(place, _arguments(way), _settings(way))
            self.expected[way] = fingerprint(place / "surface.h5")
            self.whole[way] = look(place / "surface.h5").seen

    def _moment(self, way: str, draw: Random) -> float:
        """Return a moment from launch to exit of a sweep on three ranks, in seconds."""
        if way not in self.seconds:
            begun = time.monotonic()
            _prepare(self.folder / f"{way}-timed", way)
            Victim(self.folder / f"{way}-timed", _arguments(way), 3, _settings(way) | SLOW).end(PATIENCE)
            self.seconds[way] = time.monotonic() - begun
        return draw.uniform(0, 1.1 * self.seconds[way])

    def trial(self, number: int, single: bool = False) -> Outcome:
        """Run a trial; the same number draws the same one. `single`: of one rank alone, from launch to exit."""
        draw, begun = Random(number), time.monotonic()
        ways = WAYS[:-1] if single else WAYS
        way, aim = ways[number % len(ways)], list(DELAYS)[number // len(WAYS) % len(DELAYS)]
        kind = ALL if way == "merge" else ONE if single else draw.choice((ONE, ALL, LAUNCHER))
        ranks = 1 if way == "merge" else draw.randint(2, 4)
        again = 1 if way == "merge" else draw.choice([n for n in range(1, 5) if n != ranks])
        place = self.folder / f"trial-{number}"
        _prepare(place, way)
        if way == "merge":
            self._begin_merge(place)
        moment = self._moment(way, draw) if single else None
        victim = Victim(place, _arguments(way), ranks, _settings(way) | SLOW)
        phase, before, ended = _strike(
            victim, _Aim(place / "surface.h5", aim, self.whole[way], way == "merge", moment), kind, draw
        )
        hung, code, told = ended is None, victim.process.returncode, victim.said().count("error: ")
        lost, wrong = self._damage(place, way, before)
        if not wrong and not hung:
            lost_again, wrong, hung = self._again(place, way, again, before)
            lost += lost_again
        if not (lost or wrong or hung):
            shutil.rmtree(place)
        spent = time.monotonic() - begun
        found = Outcome(way, kind, phase, ranks, again, before.seen, lost, wrong, hung, spent)
        return replace(found, ended=GONE if ended is None else ended, code=code, told=told)

    def _begin_merge(self, place: Path) -> None:
        """Put shards into place, one of them into a surface already."""
        for shard in (self.folder / "merge").glob("surface.shard-*.h5"):
            shutil.copy(shard, place)
        Victim(place, ["merge", "surface.h5", f"surface.shard-0-of-{SHARDS}.h5"], 1, {}).end(PATIENCE)

    def _damage(self, place: Path, way: str, before: Sight) -> tuple[int, str]:
        """Return what is missing of what was seen before the kill, and what is wrong with the file."""
        surface = place / "surface.h5"
        try:
            after = look(surface)
        except OSError as error:
            return 0, f"does not open: {error}"
        return before.missing(after, way == "sampled"), "" if dumps_or_absent(surface) else "h5dump fails"

    def _again(self, place: Path, way: str, ranks: int, before: Sight) -> tuple[int, str, bool]:
        """Run the same again to its end; return what is missing then, what is wrong, and whether it hung."""
        code = Victim(place, _arguments(way), ranks, _settings(way)).end(PATIENCE)
        if code is None:
            return 0, "", True
        after = look(place / "surface.h5")
        same = fingerprint(place / "surface.h5") == self.expected[way]
        wrong = f"exit code {code}" if code else "" if same and after.complete and not after.aside else "differs"
        return before.missing(after, way == "sampled"), wrong, False


def dumps_or_absent(surface: Path) -> bool:
    """Return whether there is no file or one that h5dump reads."""
    return not surface.exists() or dumps(surface)


@dataclass(frozen=True)
class _Aim:
    """The phase to hit, of a run that ends with `whole` points, or records, seen; `alone`: it is a merge.

    `moment`: seconds after the launch at which to hit instead, whatever the phase.
    """

    surface: Path
    phase: str
    whole: int
    alone: bool
    moment: float | None = None

    def reached(self, share: float) -> bool:
        """Return whether the phase has begun; a sweep's, with a share of its points done."""
        if self.phase == "creation" and any(self.surface.parent.glob(f".{self.surface.name}.*")):
            return True
        seen = look(self.surface)
        return seen.complete or (self.phase != "creation" and seen.seen >= max(share * self.whole, 1))

    def hit(self, seen: Sight) -> str:
        """Return which phase a run is in of which this is seen."""
        if seen.aside:
            return "creation"
        if not seen.size or self.alone:
            return "start"
        return "close" if seen.seen >= self.whole else "sweep"


def _strike(victim: Victim, aim: _Aim, kind: str, draw: Random) -> tuple[str, Sight, float | None]:
    """Kill at the moment aimed at; return the phase it fell into, what was seen, and after how long all was over."""
    if aim.moment is None:
        targets, share = victim.targets(kind, draw), draw.random()
        victim.wait_until(lambda: aim.reached(1.0 if aim.phase == "close" else share), 0.0005)
        time.sleep(draw.uniform(0, DELAYS[aim.phase]))
    else:
        victim.wait(aim.moment)
        targets = victim.one(draw)
    before = look(aim.surface)
    ended = victim.process.poll() is not None
    kill(targets)
    if kind == ALL:
        kill(victim.members())
    begun = time.monotonic()
    gone = victim.all_gone()
    return "after its end" if ended else aim.hit(before), before, time.monotonic() - begun if gone else None


def _prepare(place: Path, way: str) -> None:
    place.mkdir(parents=True)
    shutil.copy(HERE / "frail.py", place)
    torch.manual_seed(0)
    torch.save(network().state_dict(), place / "net.pt")
    (place / "job.yaml").write_text(JOB + (SAMPLING if way == "sampled" else ""))


def _arguments(way: str) -> list[str]:
    if way == "merge":
        return ["merge", "surface.h5", *(f"surface.shard-{shard}-of-{SHARDS}.h5" for shard in range(SHARDS))]
    return ["sweep", "job.yaml", "--quiet"]


def _settings(way: str) -> dict[str, str]:
    return {"LANDSCAPE_WRITER": "root"} if way == "root writes" else {}


def _finish(place: Path, arguments: list[str], settings: dict[str, str]) -> None:
    code = Victim(place, arguments, 1, settings).end(PATIENCE)
    if code != 0:
        raise RuntimeError(f"{arguments} ended with {code}: {(place / 'output.txt').read_text()}")
