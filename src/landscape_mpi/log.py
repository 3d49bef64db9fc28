"""Logs what a run does and how far it is, from rank 0 alone, by Python's `logging`.

Nothing fails where the standard streams are full or closed.

Lines go to the logger `landscape_mpi`; lines of progress go to its child `landscape_mpi.progress`. Nothing is set up at
import: a command, and a sweep called from Python, write them to standard error while they run.
"""

import errno
import io
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

from landscape_mpi.errors import Calls, Text, UserError, from_here, render

LOGGER = logging.getLogger("landscape_mpi")
PROGRESS = logging.getLogger("landscape_mpi.progress")
NUMBERS = {1: "stdout", 2: "stderr"}
NOTEBOOK_LINE = 100
"""Characters of a line of progress in a notebook, which does not erase the end of the previous line."""
PASSED_OVER = "passed over"
"""The kind of a note that a faster engine cannot take the network."""
EVERY = 60.0
"""Seconds between two lines of progress in a file; the first comes sooner."""


class Ranked(Protocol):
    """Whatever has a rank, such as a `World`."""

    rank: int


class Line:
    """The message of a record: rendered when it is read, with files named from the working folder."""

    def __init__(self, text: Text, called: Calls = str) -> None:
        """Take the words, and what to call their terms."""
        self.text, self.called = text, called

    def __str__(self) -> str:
        """Return the line."""
        return from_here(render(self.text, self.called))


def log(world: Ranked, text: Text, level: int = logging.INFO, kind: str = "") -> None:
    """Log a line, from rank 0 alone; `kind` is for filters, as an attribute of the record."""
    if world.rank == 0:
        say(Line(text), level, kind=kind)


def note(world: Ranked, text: Text, kind: str = "") -> None:
    """Log what a user should know of, from rank 0 alone; `kind` as for `log`."""
    log(world, ("note: ", text), logging.WARNING, kind)


def noter(world: Ranked) -> Callable[[Text], None]:
    """Return a function that logs a note, from rank 0 alone and each text once."""
    told: set[Text] = set()

    def once(text: Text) -> None:
        if text not in told:
            told.add(text)
            note(world, text)

    return once


def say(line: Line | str, level: int = logging.INFO, rank: int = 0, kind: str = "") -> None:
    """Log a line from this rank; where there may be other ranks, the line names it. `kind` as for `log`."""
    _emit(LOGGER, level, line, rank=rank, kind=kind)


def show_progress(line: Line | str, rank: int = 0, *, last: bool = True) -> None:
    """Log how far the work of this rank is; `last`: whether the next line must not overwrite this one."""
    _emit(PROGRESS, logging.INFO, line, rank=rank, last=last)


class ProgressLine:
    """A line that is logged repeatedly: ten times per second on a terminal, once per minute elsewhere."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, in seconds."""
        self._clock, self._next = clock, clock() + EVERY / 10
        self.terminal = any(isinstance(handler, Console) and handler.terminal for handler in LOGGER.handlers)

    def show(self, text: Callable[[float], str], last: bool = False) -> None:
        """Log what `text` returns for the current time, if a line is due or this is the last one."""
        now = self._clock()
        if last or now >= self._next:
            self._next = now + (0.1 if self.terminal else EVERY)
            show_progress(text(now), last=last)


def _emit(logger: logging.Logger, level: int, line: Line | str, **extra: object) -> None:
    """Pass a record to the handlers; lines of a command are kept, whatever the user's own code does to logging."""
    if any(isinstance(handler, Console) and handler.of_command for handler in LOGGER.handlers):
        logger.disabled = False  # logging.config disables loggers that exist before it
        enabled = level >= logger.getEffectiveLevel()
    else:
        enabled = logger.isEnabledFor(level)
    if enabled:
        logger.handle(logger.makeRecord(logger.name, level, __file__, 0, line, (), None, extra=extra))


class Console(logging.Handler):
    """Writes lines to standard error where that is possible; progress on a terminal is overwritten."""

    def __init__(self, of_command: bool) -> None:
        """Check whether standard error is a terminal; `of_command`: whether the process is ours."""
        super().__init__()
        self.of_command = of_command
        # a notebook's stream is no terminal, but overwrites a line after \r as a terminal does
        self.notebook = type(sys.stderr).__module__.startswith("ipykernel.")
        self.terminal = self.notebook or (sys.stderr is not None and sys.stderr.isatty())

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        text = record.getMessage()
        if self.terminal and record.name == PROGRESS.name:
            rest = " " * (NOTEBOOK_LINE - len(text)) if self.notebook else "\033[K"
            write(sys.stderr, f"\r{text}{rest}{chr(10) if getattr(record, 'last', False) else ''}")
        else:
            write(sys.stderr, f"{text}\n")


@contextmanager
def console(level: int | None = None, *, progress: bool = True, of_command: bool = False) -> Iterator[None]:
    """Write what is logged to standard error while the block runs, unless the logger has a handler already.

    Args:
        level: the least level, such as `logging.ERROR`; None for the logger's own, or INFO where it has none.
        progress: whether progress is shown.
        of_command: whether the process is ours, so that nothing may silence it.
    """
    before = [(logger, logger.level, logger.propagate) for logger in (LOGGER, PROGRESS)]
    handler = None if LOGGER.handlers else Console(of_command)
    if handler:
        LOGGER.addHandler(handler)
        LOGGER.propagate = False  # otherwise handlers of the root logger would write each line twice
    if level or LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(level or logging.INFO)
    if not progress:
        PROGRESS.setLevel(logging.WARNING)
    try:
        yield
    finally:
        if handler:
            LOGGER.removeHandler(handler)
        for logger, least, propagate in before:
            logger.setLevel(least)
            logger.propagate = propagate


class _Shielded(io.FileIO):
    """A descriptor whose writes never fail; `refused` is the error that the system gave."""

    refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        rest = view
        try:
            while rest and self.refused is None:
                written = super().write(rest)
                if written is None:  # other code has made it non-blocking
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            self.refused = error
        return len(view)


def shield() -> None:
    """Let no write to standard output or standard error fail from here on; for programs of our own.

    A closed descriptor is opened to /dev/null: otherwise the next file that is opened would get its number, and
    libraries would print into that file.
    """
    _opened(0)
    for number, name in NUMBERS.items():
        stream: TextIO | None = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # other code has replaced it
            continue
        closed = _opened(number)
        raw = _Shielded(number, "w", closefd=False)
        raw.refused = OSError(errno.EBADF, os.strerror(errno.EBADF)) if closed else None
        encoding = stream.encoding if stream else "utf-8"
        in_lines = number == 2 or raw.isatty()
        text = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=in_lines)
        setattr(sys, name, text)


def _opened(number: int) -> bool:
    """Open a descriptor to /dev/null where it is closed; return whether it was."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        return True
    return False


def report(text: str) -> None:
    """Write lines about finished work to standard output; a line that cannot be written is dropped."""
    write(sys.stdout, from_here(f"{text}\n"))


def write(stream: TextIO | None, text: str) -> None:
    """Write to a stream, and ignore a failure: the stream may belong to another program."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, none
        stream.write(text)  # type: ignore[union-attr]
        stream.flush()  # type: ignore[union-attr]


def answer(text: str) -> None:
    """Write the result of a command to standard output.

    Raises:
        UserError: it cannot be written; a pipe whose reader has gone is no mistake.
    """
    report(text)
    check_answered()


def check_answered() -> None:
    """Check that standard output could be written. Raises as `answer`."""
    write(sys.stdout, "")
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    refused = raw.refused if isinstance(raw, _Shielded) else None
    if refused is not None and refused.errno != errno.EPIPE:
        found = f"cannot be written ({refused.strerror})"
        raise UserError("standard output", found, expected="something that takes it")


WIDTH = 30
Clock = Callable[[], float]


class Progress:
    """Counts the points that are done, and tells their rate and the time left."""

    def __init__(self, total: int, done: int, clock: Clock = time.monotonic) -> None:
        """Start at `done` of `total` points."""
        self._total, self.done, self._before = total, done, done
        self._start = clock()
        self._line = ProgressLine(clock)

    def step(self) -> None:
        """Count one more point, and show the progress if a line is due."""
        self.done += 1
        self._line.show(self.text, last=self.done == self._total)

    def text(self, now: float) -> str:
        """Return e.g. `312 of 625 points (50 %), 4.1 points/s, 1:16 left`."""
        rate = (self.done - self._before) / max(now - self._start, 1e-9)
        share = self.done / self._total
        bar = f"[{'#' * round(share * WIDTH):{WIDTH}}] " if self._line.terminal else ""
        left = time_left(self._total - self.done, rate)
        return f"{bar}{self.done} of {self._total} points ({share:.0%}), {rate:.3g} points/s, {left} left"


class Pace:
    """Counts examples, and tells how long others will take."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._start, self._done = clock, clock(), 0

    def count(self, examples: int) -> None:
        """Count examples that have been evaluated."""
        self._done += examples

    def left(self, examples: int) -> str:
        """Return how long so many more examples take at the pace so far, `?` before there is a pace."""
        return time_left(examples, self._done / max(self._clock() - self._start, 1e-9))


def time_left(count: int, rate: float) -> str:
    """Return how long `count` takes at a rate per second, `?` where there is no rate yet."""
    return clock_time(count / rate) if rate else "?"


def clock_time(seconds: float) -> str:
    """Return seconds as h:mm:ss, or m:ss under an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def ranks(count: int, group: int | None = None) -> str:
    """Return the number of ranks in words, and the number of ranks in a group."""
    groups = f" in groups of {group}" if group is not None and group > 1 else ""
    return f"{count} rank{'s' if count > 1 else ''}{groups}"
