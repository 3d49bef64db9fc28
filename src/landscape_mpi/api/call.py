"""The arguments of a call -> what a sweep is made of, and the sections of its job; runs nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from landscape_mpi.api.document import RANDOM, Plain, Sections, grid_of
from landscape_mpi.api.given import Given, directions_of, ends_of, loss_of, name_of, networks_of, own, splits_of
from landscape_mpi.data.rows import count
from landscape_mpi.errors import UserError
from landscape_mpi.job import GIVEN, JobFile, SweepJob
from landscape_mpi.plane.kinds import can_move

OTHERS = {"plane.to": "other", "plane.via": "third"}
"""What a job calls networks that a call gives."""


@dataclass(frozen=True)
class Call:
    """The arguments of `sweep` that are part of the experiment, as they were given; None for the usual."""

    model: object
    loss: object
    loss_options: Mapping[str, Any] | None
    data: object
    plane: object
    grid: object
    metrics: Sequence[str] | None
    evaluate: Plain
    hessian: Plain | None
    sampling: Plain | None
    output: str | None

    def given(self) -> Given:
        """Return the objects, copied where a sweep might change them.

        Raises:
            UserError: one is not what it should be.
        """
        plane = self.plane if isinstance(self.plane, Mapping) else {}
        ends, networks, directions = ends_of(plane), networks_of(plane), directions_of(self.plane)
        loss = loss_of(self.loss, self.loss_options or {})
        return Given(own(self.model), splits_of(self.data), loss, ends, networks, directions)

    def sections(self, made: Given) -> Sections:
        """Return what the job says. Raises as `given`."""
        plane = self._plane(made)
        return Sections(
            model=name_of(self.model),
            data=(_in_words(made), list(made.data)),
            loss=self.loss if isinstance(self.loss, str) else name_of(self.loss),
            loss_options=self.loss_options,
            plane=plane,
            grid=grid_of(self.grid, str(plane.get("kind")), _is_line(plane, made)),
            metrics=self.metrics or self._metrics(made),
            evaluate={**self.evaluate, "dtype": self.evaluate["dtype"] or _dtype(made)},
            hessian=self.hessian,
            sampling=self.sampling,
            output=self.output,
        )

    def job(self, made: Given, file: Path) -> JobFile[SweepJob]:
        """Return the job that writes `file`. Raises as `given`."""
        return self.sections(made).job(file)

    def _plane(self, made: Given) -> Plain:
        if made.directions:
            return {"kind": "file", "path": GIVEN}
        section: dict[str, Any] = {**(self.plane if isinstance(self.plane, Mapping) else RANDOM)}
        if section.get("repeats", 1) != 1:
            raise UserError("plane.repeats: is for jobs; call once for each seed.")
        return {**section, **{key.removeprefix("plane."): OTHERS[key] for key in made.ends}}

    def _metrics(self, made: Given) -> list[str]:
        return ["loss", "accuracy"] if self.loss == "cross_entropy" and made.classified else ["loss"]


def _is_line(plane: Plain, made: Given) -> bool:
    """Whether there is one direction alone."""
    return len(made.directions) == 1 or (plane.get("kind") == "interpolate" and plane.get("via") is None)


def _in_words(made: Given) -> str:
    """Return what figures call the data, after the colon."""
    sizes = [f"{count(made.split(name).targets):,} {name}" for name in made.data]
    return f"python:{' and '.join(sizes)} examples"


def _dtype(made: Given) -> str:
    dtypes = {parameter.dtype.to_real() for parameter in made.theta.parameters() if can_move(parameter)}
    return "float64" if dtypes == {torch.float64} else "float32"
