"""What ranks tell each other; sends nothing."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from landscape_mpi.errors import Exit, Text

Piece = TypeVar("Piece")
"""What is handed out, such as the index of a point; never None, and small enough for a message."""
Result = TypeVar("Result")
"""What comes back."""


@dataclass(frozen=True)
class Ask:
    """A rank wants its next piece."""


@dataclass(frozen=True)
class Report(Generic[Result]):
    """A rank has done a piece."""

    result: Result


@dataclass(frozen=True)
class Failed:
    """The piece in hand raised, and its rank goes on; the text as in `Failure`."""

    text: str


@dataclass(frozen=True)
class Leave:
    """A rank has done its last piece; `stopped`: though there were more, because it has been told to stop."""

    stopped: bool = False


@dataclass(frozen=True)
class Failure:
    """A rank raised; the text names rank, host and piece, and the exit code is the one to end with."""

    text: Text
    code: int = Exit.INTERNAL
