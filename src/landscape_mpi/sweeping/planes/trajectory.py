"""Finds the checkpoints of a training run, projects them onto a plane, and chooses the grid that holds their path."""

import glob
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import FILE, natural
from landscape_mpi.files.paths import found as found_at
from landscape_mpi.job import Axis, Grid, JobFile, SweepJob
from landscape_mpi.mpi.shutdown import Stop
from landscape_mpi.networks import open_checkpoint
from landscape_mpi.plane import Plane, Row, feed, project
from landscape_mpi.surface import Trajectory
from landscape_mpi.surface.training import read_history
from landscape_mpi.sweeping.theta import Theta
from landscape_mpi.train.checkpoints import HISTORY

KEY = "plane.trajectory"
MARGIN, POINTS = 0.15, 51
"""For a grid that the path decides: the room on each side, in widths of the path, and the points along each axis."""
_EPOCH = re.compile(r"(?i)epoch\D{0,3}(\d{1,9})")
_STEP = re.compile(r"(?i)(?<![a-z0-9])(?:ep|e|step|iter)[-_=.]?(\d{1,9})(?!\d)")
_FIELD = re.compile(r"\d+(?:\.\d+)?")
_NUMBER = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class Run:
    """The checkpoints of a training run in its order, or of several runs, one after the other.

    Attributes:
        paths: of the files.
        epochs: the numbers in their names.
        rows: functions that open them.
        sha256: of the numbers, and of the names, shapes and values of all parameters.
        names: of the runs, where there are several.
        run: the index of each checkpoint's run.
    """

    paths: Sequence[Path]
    epochs: Sequence[int]
    rows: Sequence[Row]
    sha256: str
    names: tuple[str, ...] = ()
    run: Sequence[int] = ()


def find_run(job: JobFile[SweepJob], theta: Theta, stop: Stop) -> Run | None:
    """Return the checkpoints of `plane.trajectory`; None where the job names none.

    Raises:
        UserError: no file matches, or one does not fit the network or holds NaN or inf.
    """
    pattern = getattr(job.values.plane, "trajectory", None)
    if pattern is None:
        return None
    if odd := next((name for name, tensor in theta.parameters.items() if tensor.is_complex()), None):
        raise UserError(KEY, f"the parameter `{odd}` is complex", expected="a network of real ones")
    patterns, folder = [pattern] if isinstance(pattern, str) else pattern, job.path.parent
    runs = [in_order(_matches(text, folder)) for text in patterns]
    epochs = [epoch for run in runs for epoch, _ in run]
    paths = [path for run in runs for _, path in run]
    number = [index for index, run in enumerate(runs) for _ in run]
    entry = job.values.model.entry
    rows = [partial(_open, path, theta, stop, entry, path == paths[0]) for path in paths]
    sha256 = _fingerprint(paths, epochs, rows, list(theta.parameters))
    if isinstance(pattern, str):
        return Run(paths, epochs, rows, sha256)
    parted = hashlib.sha256(f"{sha256}|{number}".encode()).hexdigest()
    return Run(paths, epochs, rows, parted, _names([run[0][1] for run in runs]), number)


def _matches(pattern: str, folder: Path) -> list[Path]:
    # Path.glob takes no absolute patterns
    found = glob.glob(str(Path(pattern).expanduser()), root_dir=folder, recursive=True)  # noqa: PTH207
    paths = [folder / name for name in found if found_at(folder / name) == FILE]
    if not paths:
        raise UserError(
            KEY,
            f"no file matches {pattern!r} in {folder}",
            expected='the checkpoints of a training run, such as "nets/vgg9/epoch-*.safetensors"',
        )
    return paths


def in_order(paths: Sequence[Path]) -> list[tuple[int, Path]]:
    """Return epochs and paths in the order of the epochs that the names tell, else in that of the names.

    In a name, 9 comes before 10.
    """
    named = sorted(paths, key=natural)
    epochs = _epochs(named)
    known = [epoch for epoch in epochs if epoch is not None]
    if len(known) < len(named):
        return list(enumerate(named))
    return sorted(zip(known, named, strict=True), key=lambda pair: pair[0])


def _epochs(paths: Sequence[Path]) -> list[int | None]:
    """Return the number after `epoch` in each name, or after `ep`, `e`, `step` or `iter`; else the one that differs.

    A metric in the name is no epoch. Places that have a number in all names are compared, and the last place counts
    whose numbers are whole and differ from name to name.
    """
    for word in (_EPOCH, _STEP):
        named = [word.search(path.name) for path in paths]
        if all(named):
            return [int(found[1]) for found in named if found]
    fields = [_FIELD.findall(path.stem) for path in paths]
    columns = zip(*fields, strict=True) if len(set(map(len, fields))) == 1 else ()
    whole = [
        column for column in columns if all(map(str.isdecimal, column)) and len(set(map(int, column))) == len(paths)
    ]
    if whole:
        return list(map(int, whole[-1]))
    return [int(numbers[-1]) if (numbers := _NUMBER.findall(path.stem)) else None for path in paths]


def _open(path: Path, theta: Theta, stop: Stop, entry: str | None, first: bool) -> dict[str, torch.Tensor]:
    """Open a checkpoint; for the first, tell the user how its weights were found, as all of a run are alike."""
    stop.check()
    found = open_checkpoint(theta.origin, path, KEY, entry, mapped=True)
    for text in found.notes if first else ():
        theta.note(text)
    return {**theta.parameters, **found.state}  # a state dict need not hold all of them


def _fingerprint(paths: Sequence[Path], epochs: Sequence[int], rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the SHA-256 of a run's parameters, all of which have to be finite."""
    digest = hashlib.sha256()
    for path, epoch, row in zip(paths, epochs, rows, strict=True):
        state = row()
        digest.update(f"|{epoch}|".encode())
        for name in names:
            if not bool(torch.isfinite(state[name]).all()):
                raise UserError(
                    KEY, f"{path} holds NaN or inf in `{name}`", expected="checkpoints of a run that did not diverge"
                )
            feed(digest, {name: state[name]})
    return digest.hexdigest()


def _names(firsts: Sequence[Path]) -> tuple[str, ...]:
    """Return as much of the end of each run's folder as tells them apart; else the names of their first checkpoints."""
    for depth in range(1, max(len(path.parent.parts) for path in firsts) + 1):
        names = tuple("/".join(path.parent.parts[-depth:]) for path in firsts)
        if len(set(names)) == len(names):
            return names
    return tuple(path.stem for path in firsts)


def place(run: Run | None, plane: Plane, explained: tuple[float, ...]) -> Trajectory | None:
    """Return the path of a run on a plane, with what the history beside its checkpoints holds; None without a run.

    `explained`: shares of the variance of a plane of components.

    Raises:
        UserError: the file that should be the history is not one.
    """
    if run is None:
        return None
    found = project(run.rows, plane)
    files = {path.parent: path.parent / HISTORY for path in run.paths}
    histories = {
        folder: {record.epoch: record for record in read_history(file)}
        for folder, file in files.items()
        if file.is_file()
    }
    records = [histories.get(path.parent, {}).get(epoch) for path, epoch in zip(run.paths, run.epochs, strict=True)]
    return Trajectory(
        coordinates=tuple(found.coordinates.T.copy()),
        residual=found.residual,
        epoch=np.array(run.epochs, np.int64),
        train_loss=np.array([record.train_loss if record else math.nan for record in records]),
        lr=np.array([record.lr if record else math.nan for record in records]),
        explained=explained,
        run=np.array(run.run, np.int64) if run.names else None,
        names=run.names,
    )


def holding(path: Trajectory, points: int | None) -> Grid:
    """Return the grid that holds a path and the origin, with room around them, of so many points (51) per axis."""
    alpha, beta = path.coordinates if len(path.coordinates) == 2 else (path.alpha, path.alpha)
    return Grid(alpha=_axis(alpha.tolist(), points or POINTS), beta=_axis(beta.tolist(), points or POINTS))


def _axis(values: Sequence[float], points: int) -> Axis:
    """Return an axis with round ends beyond the path, which do not depend on how its last digits were rounded."""
    first, last = min(0.0, *values), max(0.0, *values)
    room = MARGIN * (last - first)
    unit = 10.0 ** (math.floor(math.log10(last - first)) - 1)
    low, high = math.floor((first - room) / unit) * unit, math.ceil((last + room) / unit) * unit
    return Axis(float(f"{low:.12g}"), float(f"{high:.12g}"), points)
