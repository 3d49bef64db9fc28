"""A model of ranks that ask rank 0 for points, event by event; knows no MPI and measures nothing."""

import math
from bisect import bisect_left
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heapify, heappop, heappush

SIZES = sorted({round(lead * 10**power) for power in range(4) for lead in (1, 1.5, 2, 3, 5, 7)} | {10_000})
"""The numbers of ranks looked at; no result is worth more digits."""
Process = Generator[float, float, None]
"""A rank: yields when it wants to go on and is sent that moment once all earlier ones have passed."""


@dataclass(frozen=True)
class Naps:
    """How one waits for a message: `first` seconds asleep, then `growth` times longer each time, `longest` at most."""

    first: float = 0.0
    growth: float = 1.0
    longest: float = math.inf

    def seen(self, since: float, arrived: float) -> float:
        """Return when a message is seen that arrives at `arrived`, by one who looks for it from `since` on."""
        if not self.first:
            return max(since, arrived)
        look, nap = since, self.first
        while look < arrived and nap < self.longest:
            look += nap
            nap = min(self.growth * nap, self.longest)
        return look if look >= arrived else look + self.longest * math.ceil((arrived - look) / self.longest)


@dataclass(frozen=True)
class Costs:
    """What a point costs besides its computation, in seconds.

    `service`: of rank 0's coordinator, to answer a claim and to take in a record. `late`: of the point's rank, without
    a core. `work`: of the point's rank on a core, to write and to ask. `cores`: how many all ranks share; None gives
    each its own. `naps`: how rank 0 and the ranks wait; by default a message is seen when it arrives.
    """

    service: float = 0.0
    late: float = 0.0
    work: float = 0.0
    cores: int | None = None
    naps: Naps = Naps()


def wall_time(ranks: int, points: Iterable[float], costs: Costs) -> float:
    """Return the seconds from the first question to the last answer.

    Every rank asks for its next point before it computes the one it has. Rank 0 computes too, takes its own points
    without a message, and answers the others in the order in which they ask, asleep while nobody does.

    Args:
        ranks: how many compute, rank 0 among them.
        points: seconds that each point takes, in the order in which they are handed out.
        costs: what is lost.
    """
    sweep = _Sweep(points, costs)
    return _run([sweep.root(), *(sweep.other() for _ in range(1, ranks))])


def efficiency(ranks: int, points: Sequence[float], costs: Costs) -> float:
    """Return the share of all ranks' time that goes into points."""
    return sum(points) / (ranks * wall_time(ranks, points, costs))


def most_ranks(seconds: float, least: Iterable[float], costs: Costs, each: int) -> list[int]:
    """Return, for each efficiency in `least`, the largest of SIZES that still has it; 0 if none does.

    Args:
        seconds: what every point takes.
        least: efficiencies, 0 to 1; they are taken to fall as ranks are added.
        costs: what is lost.
        each: points per rank; where they are few, the first and the last dominate.
    """
    found = cache(lambda ranks: efficiency(ranks, [seconds] * (ranks * each), costs))
    counts = [bisect_left(SIZES, 1, key=lambda ranks: found(ranks) < enough) for enough in least]
    return [SIZES[count - 1] if count else 0 for count in counts]


class _Sweep:
    """What the ranks share: the points, rank 0's coordinator and the cores."""

    def __init__(self, points: Iterable[float], costs: Costs) -> None:
        self._points, self._costs = iter(points), costs
        self._answered = 0.0
        self._cores = [0.0] * (costs.cores or 0)

    def root(self) -> Process:
        now = 0.0
        while (point := next(self._points, None)) is not None:
            now = yield now + point + self._costs.late
            now = yield self._worked(now)

    def other(self) -> Process:
        answer, point = self._claim(0.0)
        now = yield self._costs.naps.seen(0.0, answer)
        while point is not None:
            answer, following = self._claim(now)
            now = yield now + point + self._costs.late
            now = yield self._costs.naps.seen(self._worked(now), answer)
            point = following

    def _claim(self, now: float) -> tuple[float, float | None]:
        """Return when the coordinator has answered a question asked now, and the answer."""
        self._answered = self._costs.naps.seen(self._answered, now) + self._costs.service
        return self._answered, next(self._points, None)

    def _worked(self, now: float) -> float:
        """Return when work that starts now, or once a core is free, is done."""
        if not self._cores:
            return now + self._costs.work
        done = max(now, heappop(self._cores)) + self._costs.work
        heappush(self._cores, done)
        return done


def _run(processes: Sequence[Process]) -> float:
    """Pass the processes through time together and return when the last one ends."""
    now = 0.0
    events = [(next(process, math.inf), number) for number, process in enumerate(processes)]
    heapify(events)
    while events and events[0][0] < math.inf:
        now, number = heappop(events)
        try:
            heappush(events, (processes[number].send(now), number))
        except StopIteration:
            continue
    return now
