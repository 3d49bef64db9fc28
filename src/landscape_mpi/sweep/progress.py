"""How far a sweep is: a bar on a terminal, a line now and then in a file; knows counts and clocks only."""

import time
from collections.abc import Callable
from typing import TextIO

WIDTH = 30
EVERY = 60.0
"""Seconds between two lines in a file; the first comes sooner."""


class Progress:
    """Counts points done and says at what rate and how much longer."""

    def __init__(
        self, total: int, done: int, stream: TextIO | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start at `done` of `total` points; nothing is shown where the stream is None."""
        self._total, self._done, self._before = total, done, done
        self._stream, self._clock = stream, clock
        self._start = clock()
        self._next_line = self._start + EVERY / 10
        self._bar = stream is not None and stream.isatty()

    def step(self) -> None:
        """Count one more point and show it where it is time to."""
        self._done += 1
        now = self._clock()
        last = self._done == self._total
        if self._stream is None or not (last or now >= self._next_line):
            return
        self._next_line = now + (0.1 if self._bar else EVERY)
        text = self.text(now)
        self._stream.write(f"\r{text}\033[K{chr(10) if last else ''}" if self._bar else f"{text}\n")
        self._stream.flush()

    def text(self, now: float) -> str:
        """Return e.g. `312 of 625 points (50 %), 4.1 points/s, 1:16 left`."""
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        left = clock_time((self._total - self._done) / rate) if rate else "?"
        share = self._done / self._total
        bar = f"[{'#' * round(share * WIDTH):{WIDTH}}] " if self._bar else ""
        return f"{bar}{self._done} of {self._total} points ({share:.0%}), {rate:.3g} points/s, {left} left"


def clock_time(seconds: float) -> str:
    """Return seconds as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
