"""Turns the arguments of `landscape_mpi.sweep` into the objects to sweep and the equivalent job."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from msgspec import structs

from landscape_mpi.api.inputs import (
    Given,
    directions_of,
    ends_of,
    functions_of,
    loss_of,
    metric_name,
    name_of,
    network_of,
    networks_of,
    splits_of,
)
from landscape_mpi.data.split import count
from landscape_mpi.errors import Either, Flag, Term, UserError
from landscape_mpi.job import AXES, FROM_PYTHON, GIVEN, JobFile, SweepJob, read_values
from landscape_mpi.plane.parameters import can_move

Plain = Mapping[str, Any]
RANDOM: Plain = {"kind": "random"}
OTHERS = {"plane.to": "other", "plane.via": "third"}
"""Names that stand in a job for networks given in a call."""
POINTS = 25
"""Points along each axis, where a call gives no grid."""
RANGES = {"interpolate": (-0.5, 1.5), "curve": (0.0, 1.0)}
"""First and last coordinate by kind of plane, where a call gives only numbers of points; -1 to 1 for other kinds.

For a plane of kind pca, a single number of points is that of the grid that holds the path.
"""
ARGUMENTS = {
    "evaluate.batch": "batch_size",
    "data.build": "data",
    "data.splits": "data",
    "model.build": "model",
    "model.checkpoint": "model",
    "output.file": "output",
}
"""Keys of a job -> arguments of `sweep` that have another name."""


@dataclass(frozen=True)
class Call:
    """The arguments of `sweep` that are part of the experiment, as they were given; None for the default."""

    model: object
    loss: object
    loss_options: Mapping[str, Any] | None
    data: object
    plane: object
    grid: object
    metrics: Sequence[object] | None
    evaluate: Plain
    hessian: Plain | None
    sampling: Plain | None
    output: str | None

    def given(self) -> Given:
        """Return the objects; none of them is changed.

        Raises:
            UserError: one is not what it should be.
        """
        plane = self.plane if isinstance(self.plane, Mapping) else {}
        ends, networks, directions = ends_of(plane), networks_of(plane), directions_of(self.plane)
        loss = loss_of(self.loss, self.loss_options or {})
        functions = functions_of(self.metrics)
        return Given(network_of(self.model), splits_of(self.data), loss, ends, networks, directions, functions)

    def job(self, made: Given, file: Path) -> JobFile[SweepJob]:
        """Return the job that writes `file`. Raises as `given`."""
        plane = self._plane(made)
        to_one_end = plane.get("kind") in RANGES and plane.get("via") is None
        axes = len(made.directions) or (1 if to_one_end else 2)
        sizes = [f"{count(made.split(name).targets):,} {name}" for name in made.data]
        dtypes = {parameter.dtype.to_real() for parameter in made.model.parameters() if can_move(parameter)}
        dtype = "float64" if dtypes == {torch.float64} else "float32"
        evaluate = {**self.evaluate, "dtype": self.evaluate["dtype"] or dtype}
        usual = ["loss", "accuracy"] if self.loss == "cross_entropy" and made.classified else ["loss"]
        sections = {
            "model": {"build": name_of(self.model), "checkpoint": "theta*"},
            # figures show what follows the colon
            "data": {"build": f"python:{' and '.join(sizes)} examples", "splits": list(made.data)},
            "loss": self.loss if isinstance(self.loss, str) else name_of(self.loss),
            "loss_options": self.loss_options,
            "plane": plane,
            "grid": grid_of(self.grid, str(plane.get("kind")), axes),
            "metrics": [*map(metric_name, self.metrics)] if self.metrics else usual,
            "evaluate": {key: value for key, value in evaluate.items() if value is not None},
            "hessian": self.hessian,
            "sampling": self.sampling,
            "output": {"file": self.output or "surface.h5"},
        }
        return job_of(sections, file)

    def _plane(self, made: Given) -> Plain:
        if made.directions:
            return {"kind": "file", "path": GIVEN}
        section: dict[str, Any] = {**(self.plane if isinstance(self.plane, Mapping) else RANDOM)}
        if section.get("repeats", 1) != 1:
            raise UserError("plane.repeats", "is for jobs", remedy="call once for each seed")
        return {**section, **{key.removeprefix("plane."): OTHERS[key] for key in made.ends}}


def job_of(sections: Plain, file: Path) -> JobFile[SweepJob]:
    """Return the job of sections as in a job file, whose surface goes to `file`; None leaves a section out.

    Its text holds the sections, `output` among them, so that the surface of another run can be compared.

    Raises:
        UserError: a value does not fit; the sentence is the same as for a job file.
    """
    said = {key: plain(value, key) for key, value in sections.items() if value is not None}
    text = f"# From Python: {FROM_PYTHON}(...) was given the network, the data and the loss.\n"
    text += yaml.safe_dump(said, sort_keys=False, default_flow_style=None)
    values = read_values(said, "", SweepJob)
    output = structs.replace(values.output, file=str(file))
    return JobFile(Path(FROM_PYTHON).absolute(), text, structs.replace(values, output=output))


def plain(value: object, key: str) -> Any:
    """Return a value as job files know it: mappings, lists, text, numbers.

    Raises:
        UserError: job files know no such value; `key` says where it stands.
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
        return value[:]  # without what a subclass, such as an enumeration, adds
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    raise UserError(key, f"found a {type(value).__name__}", expected="text, a number, or a list or mapping of them")


def grid_of(grid: object, kind: str, axes: int) -> Plain | None:
    """Return the section `grid` for the argument `grid` of a call.

    Args:
        grid: a mapping as in a job, "auto", a number of points, or one for each of alpha, beta, ...; None for the
            usual one.
        kind: the kind of the plane.
        axes: the number of axes, where `grid` does not say it.

    Raises:
        UserError: it is none of these.
    """
    if grid is None and kind == "pca":
        return None
    if isinstance(grid, Mapping):
        return grid
    if isinstance(grid, str) and grid == "auto":
        return dict.fromkeys(AXES[:axes], "auto")
    wanted = POINTS if grid is None else grid
    each = isinstance(wanted, list | tuple) and 1 <= len(wanted) <= len(AXES)
    counts: Sequence[Any] = wanted if each else [wanted] * axes  # type: ignore[assignment]
    if kind == "pca" and isinstance(wanted, int | np.integer):
        return {"points": int(wanted)}
    if not all(isinstance(points, int | np.integer) for points in counts):
        raise UserError(
            "grid",
            f"found {grid!r}",
            expected=(
                '{"alpha": [first, last, number of points], "beta": ...}, "auto", a number of points, or one for alpha '
                "and one for beta (and one for gamma)"
            ),
        )
    ends = RANGES.get(kind, (-1.0, 1.0))
    return {axis: [*ends, int(points)] for axis, points in zip(AXES, counts, strict=False)}


def in_arguments(error: UserError) -> UserError:
    """Return a copy of an error, without its traceback, that names arguments in place of keys and flags."""
    found = copy(error)
    found.called = argument
    return found


def argument(term: Term) -> str:
    """Return the argument of `sweep` that a key of a job or a flag of a command stands for."""
    if isinstance(term, Either):
        return term.python
    if isinstance(term, Flag):
        choices = " | ".join(f'"{value}"' for value in term.values)
        name = "overwrite=True" if term.name == "overwrite" else term.name
        return f"{name}={choices}" if choices else name
    name = ARGUMENTS.get(term.name, term.name.removeprefix("evaluate."))
    return f"{name}={json.dumps(term.values)}" if term.values else name
