"""Arguments of a call -> the job that says the same, checked as a job file is; knows no network and no data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from msgspec import structs

from landscape_mpi.errors import UserError
from landscape_mpi.job import FROM_PYTHON, JobFile, SweepJob, read_job

Plain = Mapping[str, Any]
RANDOM: Plain = {"kind": "random"}
POINTS = 25
"""Along each axis, where a call says nothing of the grid."""
RANGES = {"interpolate": (-0.5, 1.5)}
"""First and last coordinate where a call gives numbers of points alone, of the kinds for which it is not -1 to 1."""
WORDS = (
    (re.compile(r"name data\.normalize \(.*?\), or return floating-point inputs from data\.build"), "scale them first"),
    (re.compile(r"(?<![\w.])evaluate\.batch\b"), "batch_size"),
    (re.compile(r"(?<![\w.])evaluate\."), ""),
    (re.compile(r"(?<![\w.])(data|model)\.(build|checkpoint|splits)\b"), r"\1"),
    (re.compile(r"(?<![\w.])output\.file\b"), "output"),
    (re.compile(r"--overwrite\b"), "overwrite=True"),
    (re.compile(r"metrics: \[loss\]"), 'metrics=["loss"]'),
    (re.compile(r"--(kind|metric) (\w+)"), r'\1="\2"'),
    (re.compile(r"(?<![\w-])--(\w+)"), r"\1"),
)
"""What a job file and the commands call an argument, and its own name."""


@dataclass(frozen=True)
class Sections:
    """What a call says, by the sections of a job; None leaves a section out.

    Attributes:
        model: the name of the network's class.
        data: what the data are, in words, and the names of the splits.
        loss: the name of the loss.
        loss_options: as the key of a job.
        plane: as the section `plane`.
        grid: as the section `grid`.
        metrics: their names.
        evaluate: the keys of `evaluate` that a call gives.
        hessian: as the section.
        sampling: as the section.
        output: the surface file; None where none is kept.
    """

    model: str
    data: tuple[str, Sequence[str]]
    loss: str
    loss_options: Plain | None
    plane: Plain
    grid: Plain | None
    metrics: Sequence[str]
    evaluate: Plain
    hessian: Plain | None
    sampling: Plain | None
    output: str | None

    def job(self, file: Path) -> JobFile[SweepJob]:
        """Return the job, whose surface goes to `file`; its text says what the arguments say.

        Raises:
            UserError: a value does not fit; the sentence is the same as for a job file.
        """
        text = f"# From Python: {FROM_PYTHON}(...) was given the network, the data and the loss.\n" + self._yaml()
        job = read_job(text, Path(FROM_PYTHON), SweepJob)
        values = structs.replace(job.values, output=structs.replace(job.values.output, file=str(file)))
        return JobFile(job.path, text, values)

    def _yaml(self) -> str:
        build, splits = self.data
        document = {
            "model": {"build": self.model, "checkpoint": "theta*"},
            "data": {"build": build, "splits": list(splits)},
            "loss": self.loss,
            "loss_options": self.loss_options,
            "plane": self.plane,
            "grid": self.grid,
            "metrics": self.metrics,
            "evaluate": {key: value for key, value in self.evaluate.items() if value is not None},
            "hessian": self.hessian,
            "sampling": self.sampling,
            "output": {"file": self.output or "surface.h5"},
        }
        said = {key: plain(value, key) for key, value in document.items() if value is not None}
        return yaml.dump(said, Dumper=_WrittenOut, sort_keys=False, default_flow_style=None)


class _WrittenOut(yaml.SafeDumper):
    """Writes a list that stands twice out twice: jobs have no aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - of none
        return True


def plain(value: object, key: str) -> Any:
    """Return a value as YAML knows it.

    Raises:
        UserError: YAML knows no such thing; `key` says where it stands.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(part, f"{key}.{name}") for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part, f"{key}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:]  # without what a class of its own, such as an enumeration, adds
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    raise UserError(f"{key}: found a {type(value).__name__}; expected text, a number, or a list or mapping of them.")


def grid_of(grid: object, kind: str, line: bool) -> Plain | None:
    """Return the section `grid` of a call's argument.

    Args:
        grid: a mapping as in a job, a number of points, or one for alpha and one for beta; None for the usual one.
        kind: of the plane.
        line: whether there is one direction alone.

    Raises:
        UserError: it is none of these.
    """
    if grid is None and kind == "pca":
        return None
    if isinstance(grid, Mapping):
        return grid
    counts = _counts(POINTS if grid is None else grid, line)
    if not counts:
        raise UserError(
            f'grid: found {grid!r}; expected {{"alpha": [first, last, number of points], "beta": ...}}, a number of '
            "points, or one for alpha and one for beta."
        )
    ends = RANGES.get(kind, (-1.0, 1.0))
    return {axis: [*ends, count] for axis, count in zip(("alpha", "beta"), counts, strict=False)}


def _counts(grid: object, line: bool) -> list[int]:
    """Return one number of points an axis; nothing where it is no such thing."""
    every = [grid] if line else [grid, grid]
    wanted: Sequence[Any] = grid if isinstance(grid, list | tuple) and 1 <= len(grid) <= 2 else every
    return [int(n) for n in wanted] if all(isinstance(n, int | np.integer) for n in wanted) else []


def in_arguments(text: str) -> str:
    """Return a sentence with the names that the arguments of a call have instead of those of a job and its flags."""
    text = text.removeprefix(f"{FROM_PYTHON}: ")
    for pattern, word in WORDS:
        text = pattern.sub(word, text)
    return text
