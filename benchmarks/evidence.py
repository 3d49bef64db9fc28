"""What a reader sees of a surface and its journals at one moment, and whether a later sight holds all of it."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from landscape_mpi.surface import DONE, journal_folder
from landscape_mpi.surface.journal import IDENTITY, JOURNAL, Format, read_records
from landscape_mpi.surface.plan import PLAN, PLAN_NAME

RESULTS_NOT = {"seconds", "rank", "error", "finished", "complete", "job", "audit", "rounds"}


@dataclass(frozen=True)
class Sight:
    """What was there.

    Attributes:
        points: Of each point that is done, by its number, the bytes of its result, of who computed it and how long.
        records: Of each journal, by its name, its whole records.
        size: How many points the grid has; 0 where there is no file.
        complete: Whether the file says so.
        aside: Whether a file that is not finished lies beside it.
    """

    points: dict[int, bytes] = field(default_factory=dict)
    records: dict[str, list[bytes]] = field(default_factory=dict)
    size: int = 0
    complete: bool = False
    aside: bool = False

    def missing(self, later: "Sight", moves: bool) -> int:
        """Return how many points and records a later sight lacks, or has otherwise; `moves`: estimates may differ."""
        points = [
            n for n, found in self.points.items() if n not in later.points or (not moves and later.points[n] != found)
        ]
        records = [
            one
            for name, ours in self.records.items()
            for one, theirs in zip(ours, [*later.records.get(name, []), *[b""] * len(ours)], strict=False)
            if one != theirs
        ]
        return len(points) + len(records)

    @property
    def seen(self) -> int:
        """How many points there are, or slices of examples where those are what is kept."""
        return sum(map(len, self.records.values())) or len(self.points)


def look(surface: Path) -> Sight:
    """Return what plain h5py sees, at any moment.

    Raises:
        OSError: the file does not open.
    """
    records = {path.name: _records(path) for path in sorted(journal_folder(surface).glob("*.journal"))}
    aside = any(surface.parent.glob(f".{surface.name}.*"))
    if not surface.exists():
        return Sight(records=records, aside=aside)
    with h5py.File(surface, "r", locking=False) as file:
        complete = bool(file["complete"][()])
        status = file["status"][()].ravel()
        names = [name for name, item in file.items() if _is_of_points(item, status.size)]
        values = [file[name][()].reshape(-1) for name in names]
    points = {int(n): b"".join(value[n].tobytes() for value in values) for n in np.nonzero(status == DONE)[0]}
    return Sight(points, records, status.size, complete, aside)


def fingerprint(surface: Path) -> str:
    """Return a hash of every result and of the status."""
    digest = hashlib.sha256()
    with h5py.File(surface, "r", locking=False) as file:
        for name, item in sorted(file.items()):
            if isinstance(item, h5py.Dataset) and name not in RESULTS_NOT:
                digest.update(name.encode() + item[()].tobytes())
    return digest.hexdigest()


def dumps(surface: Path) -> bool:
    """Return whether h5dump reads all of a file; True where there is no h5dump."""
    program = shutil.which("h5dump")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return program is None or subprocess.run([program, str(surface)], check=False, **quiet).returncode == 0


def _is_of_points(item: object, size: int) -> bool:
    return isinstance(item, h5py.Dataset) and item.size == size and item.name != "/audit" and len(item.dims[0]) > 0


def _records(path: Path) -> list[bytes]:
    """Return the whole records of a journal, whichever sweep it belongs to."""
    kind: Format = PLAN if path.name == PLAN_NAME else JOURNAL
    opening = path.read_bytes()[: len(kind.magic) + IDENTITY]
    if len(opening) < len(kind.magic) + IDENTITY:
        return []
    return list(read_records(path, kind, opening[len(kind.magic) :]))
