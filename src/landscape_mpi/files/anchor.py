"""A file that is written for hours: whether its name still leads to it, and a copy where it does not; no HDF5."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import written_aside
from landscape_mpi.files.refusal import reason


class Anchor:
    """A hold on an open file: what is written into it is there until the anchor is let go, whatever its name does."""

    def __init__(self, path: Path) -> None:
        """Hold the file at `path`.

        Raises:
            OSError: there is none.
        """
        self._path = path
        self._file: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def adrift(self) -> bool:
        """Whether the file was removed, moved or replaced: its name leads nowhere, or to another file."""
        if self._file is None:
            return False
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # nobody knows
            return False
        return not os.path.samestat(there, os.fstat(self._file))

    def secure(self) -> None:
        """Save a copy of a file without its name; nobody may write into it any more.

        Raises:
            UserError: it had lost its name; the text says where the copy is.
        """
        if not self.adrift or self._file is None:
            return
        file, self._file = self._file, None
        lost = f"{self._path}: was removed, moved or replaced while it was written"
        try:
            saved = _save(file, self._path)
        except OSError as error:
            raise UserError(
                f"{lost}, and what it holds could not be saved ({reason(error)}); leave the file alone until a sweep "
                "has ended, and run the same command again."
            ) from error
        finally:
            os.close(file)
        first = "" if saved == self._path else f"give it the name {self._path.name} and "
        raise UserError(f"{lost}; what it holds was saved as {saved}: {first}run the same command again to go on.")

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _save(file: int, path: Path) -> Path:
    """Copy an open file to its name, or the next one that is free, and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = next(name for name in _names(path) if not os.path.lexists(name))
    with written_aside(place) as aside, aside.open("wb") as target, os.fdopen(os.dup(file), "rb") as source:
        source.seek(0)
        shutil.copyfileobj(source, target)
    return place


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in count(1):
        yield path.with_name(f"{path.stem}.saved-{number}{path.suffix}")
