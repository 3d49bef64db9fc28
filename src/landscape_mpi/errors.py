"""What can go wrong, by whose hand, and the exit code it ends with; knows no other module."""

import os
import re
from enum import IntEnum


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


class UserError(Exception):
    """A mistake that the user can mend.

    Its text is the whole message: one sentence that says what was wrong (key, file or rank), what was found,
    what was expected and what to do. The command prints it without a traceback and exits with `Exit.USER`.
    `details` is the traceback where the user's own code raised, for those who ask for it; else it is empty.
    """

    def __init__(self, text: str, details: str = "") -> None:
        super().__init__(text)
        self.details = details

    def told(self, verbose: bool) -> str:
        """Return what a command prints: the sentence, and the traceback or how to see it."""
        if not self.details:
            return f"error: {self}"
        return f"error: {self}\n{self.details.rstrip()}" if verbose else f"error: {self} Add -v to see its traceback."

    def __str__(self) -> str:
        """Return the sentence on one line: what was found in a file may hold anything, and terminals obey escapes."""
        return printable(from_here(" ".join(super().__str__().splitlines())))


def out_of_memory(error: MemoryError) -> UserError:
    """Return what to say where memory ran out."""
    return UserError(
        f"there is not enough memory for this ({error or 'no more was given'}); expected a machine, or a limit "
        "(ulimit -v), with more of it."
    )


class CentreMismatchError(Exception):
    """f(0, 0) differs from the plain evaluation of the checkpoint; exits with `Exit.INTERNAL`."""
