"""Counts what a sweep has done, at what rate, and how much longer it takes; shown as a line of progress."""

import time
from collections.abc import Callable

from landscape_mpi.log import ProgressLine

WIDTH = 30
Clock = Callable[[], float]


class Progress:
    """Counts points done and says at what rate and how much longer."""

    def __init__(self, total: int, done: int, clock: Clock = time.monotonic) -> None:
        """Start at `done` of `total` points."""
        self._total, self._done, self._before = total, done, done
        self._start = clock()
        self._line = ProgressLine(clock)

    def step(self) -> None:
        """Count one more point and show it where it is time to."""
        self._done += 1
        self._line.show(self.text, last=self._done == self._total)

    def text(self, now: float) -> str:
        """Return e.g. `312 of 625 points (50 %), 4.1 points/s, 1:16 left`."""
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        share = self._done / self._total
        bar = f"[{'#' * round(share * WIDTH):{WIDTH}}] " if self._line.terminal else ""
        left = time_left(self._total - self._done, rate)
        return f"{bar}{self._done} of {self._total} points ({share:.0%}), {rate:.3g} points/s, {left} left"


class Pace:
    """Counts examples and says how long others will take."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._start, self._done = clock, clock(), 0

    def count(self, examples: int) -> None:
        """Count examples that have been evaluated."""
        self._done += examples

    def left(self, examples: int) -> str:
        """Return how long so many more take at the pace so far, `?` before there is one."""
        return time_left(examples, self._done / max(self._clock() - self._start, 1e-9))


def time_left(count: int, rate: float) -> str:
    """Return how long `count` takes at a rate a second, `?` where there is none yet."""
    return clock_time(count / rate) if rate else "?"


def clock_time(seconds: float) -> str:
    """Return seconds as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def ranks(count: int) -> str:
    """Return the number of ranks in words."""
    return f"{count} rank{'s' if count > 1 else ''}"
