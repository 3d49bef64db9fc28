"""Defines the exit codes and UserError, a user's mistake in parts that become one sentence."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import TypeAlias


def printable(text: str) -> str:
    """Return a text with control characters and broken Unicode as escapes; lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def from_here(text: str) -> str:
    """Return a text with the files below the working directory named from there, as people write them."""
    try:
        here = os.getcwd()  # noqa: PTH109 - text is wanted
    except OSError:  # it has been removed
        return text
    return text if here == "/" or here not in text else re.sub(rf"(?<![\w./-]){re.escape(here)}/(?=[^\s/])", "", text)


class Exit(IntEnum):
    """Exit codes of every command."""

    COMPLETE = 0
    INTERNAL = 1
    USER = 2
    FAILED_POINTS = 3
    RUN_AGAIN = 75


@dataclass(frozen=True)
class Key:
    """A key of a job, with the list that it should hold, if any; its text is as in a job file.

    Attributes:
        name: dotted, such as `evaluate.batch`.
        values: such as ("loss",) in `metrics: [loss]`.
    """

    name: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: [{', '.join(self.values)}]" if self.values else self.name


@dataclass(frozen=True)
class Flag:
    """A flag of a command, with the values that it may take, if any; its text is as on a command line."""

    name: str
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"--{self.name} {' | '.join(self.values)}" if self.values else f"--{self.name}"


@dataclass(frozen=True)
class Either:
    """Words for users of commands, and others for callers from Python; its text is the first."""

    command: str
    python: str

    def __str__(self) -> str:
        return self.command


Term: TypeAlias = Key | Flag | Either
"""Things that have one name in job files and commands, and another in calls from Python."""
Calls: TypeAlias = Callable[[Term], str]
"""A term -> its name."""


class UserError(Exception):
    """A mistake that the user can correct, in parts; its sentence is put together when it is shown.

    The sentence is `PLACE: KEY: FOUND; expected EXPECTED: REMEDY.` without the parts that are empty. The command
    prints it without a traceback and exits with `Exit.USER`. It keeps its parts from rank to rank and from process
    to process.

    Attributes:
        key: the key of the job or the flag that is wrong, or the file; may be empty.
        found: what was found there, as the words that follow the key.
        expected: what was expected, if that has to be said.
        remedy: what to do; it follows `expected` after a colon, `found` after a semicolon, and is a sentence of its
            own where it begins with a capital.
        place: the job file that the key stands in, or the rank that found it.
        details: the traceback where the user's own code raised, for those who ask for it; else empty.
        called: names each term in the sentence.
    """

    def __init__(
        self,
        key: "Text | PurePath",
        found: "Text",
        expected: "Text" = "",
        remedy: "Text" = "",
        *,
        place: str = "",
        details: str = "",
    ) -> None:
        super().__init__(key, found, expected, remedy)
        self.key: Text = str(key) if isinstance(key, PurePath) else Key(key) if isinstance(key, str) and key else key
        self.found, self.expected, self.remedy = found, expected, remedy
        self.place, self.details = place, details
        self.called: Calls = str

    def told(self, verbose: bool) -> str:
        """Return what a command prints: the sentence, and the traceback or how to see it."""
        return f"error: {self}{self.more(verbose)}"

    def more(self, verbose: bool) -> str:
        """Return what follows the sentence: the traceback of the user's own code, if any, or how to see it."""
        if not self.details:
            return ""
        return f"\n{self.details.rstrip()}" if verbose else " Add -v to see its traceback."

    def __str__(self) -> str:
        return self.sentence(self.called)

    def sentence(self, called: Calls) -> str:
        """Return the sentence on one line, with control characters as escapes: text from a file may hold any."""
        parts = (self.key, self.found, self.expected, self.remedy)
        key, found, expected, remedy = (render(part, called) for part in parts)
        sentence = "".join(f"{part}: " for part in (self.place, key) if part) + found
        if expected:
            sentence += f"; expected {expected}"
        if remedy:
            sentence += (". " if remedy[:1].isupper() else ": " if expected else "; ") + remedy
        whole = sentence if sentence.endswith(".") else f"{sentence}."
        return printable(from_here(" ".join(whole.splitlines())))


Text: TypeAlias = str | Term | UserError | tuple["Text", ...]
"""Words of a message; its terms are named only when it is shown."""


def render(text: Text, called: Calls = str) -> str:
    """Return a text as one string; `called` names each term, by default as job files and commands do."""
    if isinstance(text, tuple):
        return "".join(render(part, called) for part in text)
    if isinstance(text, UserError):
        return text.sentence(called)
    return text if isinstance(text, str) else called(text)


def out_of_memory(error: MemoryError, place: str = "") -> UserError:
    """Return the error for a lack of memory; `place` is the rank."""
    return UserError(
        "",
        f"there is not enough memory for this ({error or 'no more was given'})",
        "a machine, or a limit (ulimit -v), with more of it",
        place=place,
    )


class CentreMismatchError(Exception):
    """f(0, 0) differs from the plain evaluation of the checkpoint; exits with `Exit.INTERNAL`."""
