"""Writes what a run says: rank 0 alone, to standard error and standard output, which may be full or closed."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TextIO

from landscape_mpi.errors import Text, UserError, from_here, render

NUMBERS = {1: "stdout", 2: "stderr"}


class _Shielded(io.FileIO):
    """A descriptor that never refuses a write; why the system did, it remembers."""

    refused: OSError | None = None

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        rest = view
        try:
            while rest and self.refused is None:
                written = super().write(rest)
                if written is None:  # somebody has told it not to block
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            self.refused = error
        return len(view)


def shield() -> None:
    """Let this process write to standard output and standard error whatever becomes of them; for programs of our own.

    A closed descriptor leads to nowhere from here on: the next file that is opened would get its number, and with it
    whatever libraries print.
    """
    _opened(0)
    for number, name in NUMBERS.items():
        stream: TextIO | None = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # somebody has put their own there
            continue
        closed = _opened(number)
        raw = _Shielded(number, "w", closefd=False)
        raw.refused = OSError(errno.EBADF, os.strerror(errno.EBADF)) if closed else None
        encoding = stream.encoding if stream else "utf-8"
        in_lines = number == 2 or raw.isatty()
        text = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=in_lines)
        setattr(sys, name, text)


def _opened(number: int) -> bool:
    """Open a descriptor to nowhere where it is closed; return whether it was."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        return True
    return False


def say(text: str) -> None:
    """Write lines to standard error if anything can be."""
    write(sys.stderr, f"{text}\n")


def report(text: str) -> None:
    """Write lines that say what was done to standard output if anything can be: the work is done without them too."""
    write(sys.stdout, from_here(f"{text}\n"))


def write(stream: TextIO | None, text: str) -> None:
    """Write to a stream if anything can be: in a program of somebody else it is theirs."""
    with suppress(OSError, ValueError, AttributeError):  # full, closed, none
        stream.write(text)  # type: ignore[union-attr]
        stream.flush()  # type: ignore[union-attr]


def answer(text: str) -> None:
    """Write lines that a command is there for to standard output.

    Raises:
        UserError: they cannot be written; a reader that has gone has had enough.
    """
    report(text)
    check_answered()


def check_answered() -> None:
    """See that what was written to standard output has been taken. Raises as `answer`."""
    write(sys.stdout, "")
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    refused = raw.refused if isinstance(raw, _Shielded) else None
    if refused is not None and refused.errno != errno.EPIPE:
        found = f"cannot be written ({refused.strerror})"
        raise UserError("standard output", found, expected="something that takes it")


class Ranked(Protocol):
    """What a line is said by."""

    rank: int
    hear: Callable[[Text], None]


def log(world: Ranked, text: Text) -> None:
    """Write a line, from rank 0 alone: on standard error unless somebody else listens."""
    if world.rank == 0:
        world.hear(text)


def noter(world: Ranked) -> Callable[[Text], None]:
    """Return what writes a note, from rank 0 alone and each text once."""
    told: set[Text] = set()

    def note(text: Text) -> None:
        if text not in told:
            told.add(text)
            log(world, ("note: ", text))

    return note


def to_stderr(text: Text) -> None:
    """Write a line on standard error."""
    say(from_here(render(text)))
