"""Defines the names, types and meanings in a surface file, and creates it with every dataset in its final size.

It is created whole or not at all: it is written under another name with all its space, and then renamed.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, Key, UserError
from landscape_mpi.files.atomic import atomic_write, reason
from landscape_mpi.files.hdf5 import OwnFile
from landscape_mpi.files.isolated import isolated
from landscape_mpi.files.paths import FILE, NOTHING, found
from landscape_mpi.metrics.registry import axes_of, dtype_of
from landscape_mpi.surface.platforms import create_platforms
from landscape_mpi.surface.training import Trajectory, write_trajectory

SCHEMA = 2
"""The schema of new files. In files of schema 1 the numbers of examples are called `train_images`, `test_images`."""
NOT_YET, DONE, FAILED = 0, 1, 2
LONGEST = 200
"""Bytes of `/error`."""
SAMPLING_OF, SAMPLING_FLOOR, SAMPLING_ERROR = "sampling_of", "sampling_floor", "sampling_error"
"""Attributes of sweeps with bars of the rise: what bars are relative to; the narrowest bar that was asked for, as a
share of f(0, 0); the target."""
CENTRE = "_loss_centre"
"""The ending of the attributes that hold f(0, 0) of each split, from which rises count."""
LETTERS = "xyz"
"""The letters with which the names of an axis' datasets and groups begin, in the order of the axes."""


@dataclass(frozen=True)
class Rows:
    """A tensor of a direction, a few of its rows at a time.

    Attributes:
        name: of the parameter; None where it is not known.
        shape: of the tensor.
        pieces: float32 arrays, one after the other along the first dimension; one array where the tensor is a number.
    """

    name: str | None
    shape: tuple[int, ...]
    pieces: Iterable[NDArray[np.float32]]


@dataclass(frozen=True)
class NewSurface:
    """All that is known when a surface file is created; afterwards only results are written.

    Attributes:
        axes: float64 coordinates along alpha, beta, ...
        results: the names of the result datasets.
        directions: delta, eta, ...: one per axis, of parameters in `named_parameters()` order; each is read once.
        job: the text of the job.
        attributes: what goes to the root: provenance and everything that fixes the numbers.
        buffers: how each direction moves the running statistics of batch norm; empty where these do not move.
        trajectory: the path of a training run.
        within: the sizes, by name, of the axes that results have besides the axes of the grid.
    """

    axes: tuple[NDArray[np.float64], ...]
    results: tuple[str, ...]
    directions: tuple[Iterable[Rows], ...]
    job: str
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    buffers: tuple[Iterable[Rows], ...] = ()
    trajectory: Trajectory | None = None
    within: Mapping[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """[nx] of a line, [ny, nx] of a plane: the last number counts along alpha."""
        return tuple(len(coordinates) for coordinates in reversed(self.axes))


@dataclass(frozen=True)
class Record:
    """A point's results by dataset name, with its grid index (iy, ix) or (ix,), the rank and the seconds it took.

    `note` says what was unusual, and goes to `/error`. `status` is DONE or
    FAILED.
    """

    index: tuple[int, ...]
    values: Mapping[str, float | NDArray[np.float64]]
    rank: int
    seconds: float
    note: str = ""
    status: int = DONE

    @staticmethod
    def failure(index: tuple[int, ...], text: str) -> "Record":
        """Return the record of a point without a result, and why there is none."""
        return Record(index, {}, -1, math.nan, text, FAILED)


@dataclass(frozen=True)
class AuditResult:
    """The result of an audit: points on all examples, to test their error bars; `/audit` holds it in this order.

    `points` were looked at, and `misses` of them missed their bars. `worst` is the worst |error| / bar, `passed` the
    verdict. `farthest` is the largest |error| in targets. `widened` is the factor by which the bars of the loss were
    made wider, the largest of all splits; 1 where they were left as they are. NaN stands for a number that an older
    file does not hold.
    """

    points: int
    misses: int
    worst: float
    passed: bool
    farthest: float = math.nan
    widened: float = math.nan

    @property
    def words(self) -> str:
        """What it found, in words."""
        if not self.points:
            return "every point stands on all examples, so there was nothing to compare"
        verdict = "passed" if self.passed else "FAILED, the bars cannot be trusted"
        return (
            f"{verdict}: of {self.points} points on all examples {self.misses} missed their bars (5 % should), "
            f"worst |error| / bar {self.worst:.2f}"
            f"{'' if math.isnan(self.farthest) else f', largest |error| {self.farthest:.2f} of the target'}"
            f"{self._widening}"
        )

    @property
    def _widening(self) -> str:
        if math.isnan(self.widened):
            return ""
        if self.widened == 1:
            return "; no bar of the loss had to be widened"
        wider = f"up to {self.widened:.2f} times as wide"
        return f"; the bars of the loss were then made {wider}, so that 95 % of these points are within theirs"


AUDIT_SIZES = (4, 5, 6)
"""How many numbers of an audit a file may hold: a new file holds all, an older file the first four or five."""


def check_schema(path: Path, found: object) -> int:
    """Return a file's schema, its attribute `schema`, if this version can know its meaning.

    Raises:
        UserError: it is no number from 1 to `SCHEMA`.
    """
    if not isinstance(found, int) or not 1 <= found <= SCHEMA:
        raise UserError(
            path,
            f"is of schema {found}, and this version of landscape_mpi reads 1 to {SCHEMA}",
            expected="a file of this version or an older one",
            remedy="install the version that wrote it, or the file is damaged",
        )
    return found


def tensor_header(group: str, name: str | None, shape: tuple[int, ...]) -> bytes:
    """Return the bytes that precede the bytes of a tensor in the SHA-256 of directions."""
    return f"{group}/{name}{shape}".encode()


def create_surface(path: Path, new: NewSurface) -> None:
    """Create the surface file with every dataset in its final size and place.

    Afterwards the ranks only overwrite raw bytes, so a kill at any moment leaves a file that opens.

    Raises:
        UserError: something else than a surface of ours lies there, the folder cannot be written or the disk is full.
    """
    check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as aside, OwnFile(aside, "w") as file:
            _fill(file, new)
    except (OSError, RuntimeError) as error:
        raise UserError(
            "output.file",
            f"{path} cannot be created ({reason(error)})",
            expected="a folder that can be written and space for the whole surface",
        ) from error


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written, before anything is computed.

    Raises:
        UserError: the file or the nearest folder that exists cannot be written.
    """
    if (what := found(path)) not in (FILE, NOTHING):
        raise UserError("output.file", f"{path} is {what}", expected="the name of a file")
    nearest = path if what == FILE else next(folder for folder in path.absolute().parents if found(folder) != NOTHING)
    try:
        # ask the file system itself: for root, every check of permissions passes
        with path.open("r+b") if nearest == path else TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise UserError(
            "output.file",
            f"{path} cannot be written, because {nearest} does not allow it ({error.strerror})",
            remedy="name another place",
        ) from None


def check_replaceable(path: Path) -> None:
    """Refuse to start afresh where something else than a surface of ours would be lost.

    Raises:
        UserError: what is there is not a surface of ours; an empty file counts as nothing.
    """
    if path.exists() and path.stat().st_size and not isolated([path], _is_ours, path):
        raise UserError(
            "output.file",
            (
                f"{path} is no surface of landscape_mpi, and nothing else is replaced, with ",
                Flag("overwrite"),
                " either",
            ),
            remedy=("it was left alone: name another ", Key("output.file"), ", or move that file away"),
        )


def _is_ours(path: Path) -> bool:
    """Return whether a file says of itself that it is a surface of ours; what it holds may be damaged."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return "schema" in file.attrs and {"xcoordinates", "status", "job"} <= set(file)
    except Exception:  # a file of others can raise nearly anything
        return False


def _fill(file: h5py.File, new: NewSurface) -> None:
    """Write the datasets of the points, the job, the directions and attributes, and the space for what comes later."""
    _write_points(file, new)
    create_platforms(file, new.shape)
    file.create_dataset("complete", data=np.uint8(0))
    file.create_dataset("finished", data=np.float64(np.nan))
    file.create_dataset("rounds", data=np.int64(0))
    # a dimension scale of its own, so that netCDF readers find every axis named
    file.create_dataset("audit", data=np.full(AUDIT_SIZES[-1], np.nan)).make_scale("audit")
    job = new.job.encode()
    file.create_dataset("job", data=job, dtype=h5py.string_dtype("utf-8", max(len(job), 1)))
    directions = {f"{letter}direction": direction for letter, direction in zip(LETTERS, new.directions, strict=False)}
    directions |= {f"{letter}buffers": direction for letter, direction in zip(LETTERS, new.buffers, strict=False)}
    sha256 = write_groups(file, directions)
    if new.trajectory is not None:
        write_trajectory(file, new.trajectory)
    file.attrs.update({"schema": SCHEMA, "directions_sha256": sha256, **new.attributes})


def write_groups(file: h5py.File, groups: Mapping[str, Iterable[Rows]]) -> str:
    """Write directions by the names of their groups into a file, and return the SHA-256 of them."""
    digest = hashlib.sha256()
    for group in sorted(groups):
        made = file.create_group(group)
        for i, rows in enumerate(groups[group]):
            dataset = made.create_dataset(str(i), rows.shape, np.float32)
            if rows.name is not None:
                dataset.attrs["name"] = rows.name
            digest.update(tensor_header(group, rows.name, rows.shape))
            first = 0
            for piece in rows.pieces:
                digest.update(np.ascontiguousarray(piece).tobytes())
                if not rows.shape:
                    dataset[...] = piece
                elif piece.size:
                    dataset[first : first + len(piece)] = piece
                    first += len(piece)
    return digest.hexdigest()


def _write_points(file: h5py.File, new: NewSurface) -> None:
    """Write the coordinates as dimension scales, and on them every result as it is before a point is done.

    A result of several numbers per point has axes of its own after the axes of the grid; their scales count from 0.
    """
    axes: list[h5py.Dataset] = []
    for letter, coordinates in zip(LETTERS, new.axes, strict=False):
        axes.insert(0, file.create_dataset(f"{letter}coordinates", data=coordinates))
        axes[0].make_scale(f"{letter}coordinates")
    inner = {axis: file.create_dataset(axis, data=np.arange(size)) for axis, size in new.within.items()}
    for name, scale in inner.items():
        scale.make_scale(name)
    shapes = {name: (*new.shape, *(new.within[axis] for axis in axes_of(name))) for name in new.results}
    of_points = {
        **{
            name: np.full(shape, 0 if dtype_of(name) == "i8" else np.nan, dtype_of(name))
            for name, shape in shapes.items()
        },
        "status": np.full(new.shape, NOT_YET, np.uint8),
        "seconds": np.full(new.shape, np.nan),
        "rank": np.full(new.shape, -1, np.int32),
        "error": np.zeros(new.shape, f"S{LONGEST}"),
    }
    for name, values in of_points.items():
        dataset = file.create_dataset(name, data=values)
        for axis, scale in enumerate([*axes, *(inner[own] for own in axes_of(name))]):
            dataset.dims[axis].attach_scale(scale)
