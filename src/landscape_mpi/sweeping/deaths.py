"""Reads which points ranks had in hand when they died in earlier runs: these come last, or are marked failed."""

import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from landscape_mpi.errors import printable
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.log import note
from landscape_mpi.mpi.failures import LARGEST
from landscape_mpi.mpi.world import World
from landscape_mpi.sweeping.context import Index

LONGEST = 200
"""Characters of what a line says."""


def note_of(surface: Path) -> Path:
    """Return the file with a line for each death at a point of a surface."""
    return surface.with_name(f".{surface.name}.deaths")


class Deaths:
    """Who died at which points of a surface, in runs that have not been followed by a complete one."""

    def __init__(self, surface: Path) -> None:
        """Read the note of a surface; lines that are not ours are passed over."""
        self._note = note_of(surface)
        self._lines: defaultdict[Index, list[tuple[str, str]]] = defaultdict(list)
        for line in _read(self._note).splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):  # such as of a line that was cut short
                found = json.loads(line)
                text = printable(f"{found['who']} died at {found['place']} ({found['how']})")[:LONGEST]
                self._lines[tuple(int(i) for i in found["index"])].append((line, text))

    def at(self, index: Index) -> Sequence[str]:
        """Return who died at a point, in words."""
        return [text for _, text in self._lines.get(index, ())]

    def log(self, world: World, points: Iterable[Index]) -> None:
        """Say what becomes of those of a run's points at which ranks died."""
        counts = [len(self.at(index)) for index in points]
        once, twice = counts.count(1), sum(count > 1 for count in counts)
        parts = [f"{once} come last, one at a time"] if once else []
        parts += [f"{twice} are marked failed after two deaths"] if twice else []
        if parts:
            note(world, f"of the points at which a rank died before, {' and '.join(parts)}.")

    def end(self, failed: Iterable[Index]) -> None:
        """Keep, at the end of a run, one death of each point that failed because of its deaths; remove all others."""
        kept = [self._lines[index][-1][0] for index in failed if self.at(index)]
        with suppress(OSError):  # a disk that refuses keeps no surface from being complete
            if kept:
                with atomic_write(self._note) as made:
                    made.write_text("".join(f"{line}\n" for line in kept))
            else:
                self._note.unlink(missing_ok=True)


def _read(note: Path) -> str:
    """Return the text of a note; nothing where there is none, or something else than a file of ours lies there."""
    with suppress(OSError):
        file = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(file, "rb") as stream:
            if stat.S_ISREG(os.fstat(file).st_mode):
                return stream.read(2 * LARGEST).decode(errors="replace")
    return ""
