"""Finds the surface file that a sweep goes on with, and says what a new one holds and takes; for rank 0 alone."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from landscape_mpi.engines import DELETED, ENGINES
from landscape_mpi.errors import Flag, UserError
from landscape_mpi.job import Output, RandomPlane, SweepJob
from landscape_mpi.job import Plane as Section
from landscape_mpi.metrics.registry import axes_of, result_names
from landscape_mpi.plane import GENERATOR, Parameters, Plane
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.plane.parameters import real, single
from landscape_mpi.surface.identity import Identity, check_same
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import LETTERS, LONGEST, NewSurface, Rows
from landscape_mpi.sweeping.load import Experiment

HEAD = 22_000
"""Bytes of a surface file beside its points: attributes, the job, and what the library adds."""
ENTRY = 600
"""Bytes of a dataset beside its numbers."""
MOST_SETTINGS = 10_000
"""The most characters of command-line settings that the file repeats for `info`; its job has them applied."""
MOST_DIRECTIONS = 1 << 26
"""Bytes of the directions of a random plane that `output.directions: auto` stores, at the most."""


def find_surface(path: Path, job: SweepJob, identity: Identity) -> Surface | None:
    """Return the surface to go on with; None where there is no file yet.

    Raises:
        UserError: the file is no surface of ours, or of another experiment; it names the first key that differs.
    """
    if not path.exists():
        return None
    surface = read_surface(path)
    check_resumable(surface, job, identity)
    return surface


def check_resumable(surface: Surface, job: SweepJob, identity: Identity) -> None:
    """Refuse a surface of another experiment, or one that does not say with which batch and engine it goes on.

    Raises:
        UserError: as `find_surface`.
    """
    check_same(surface, job, identity)
    batch, engine = surface.attributes.get("batch"), surface.attributes.get("engine")
    if engine in DELETED and not surface.complete:
        raise UserError(
            "output.file",
            f"{surface.path} was begun with the engine {engine}, which this version lacks",
            expected=f"one of {', '.join(ENGINES)}",
            remedy=("finish it with landscape_mpi 0.1.0, or start afresh with ", Flag("overwrite")),
        )
    if not (isinstance(batch, int) and batch >= 1 and engine in (*ENGINES, *DELETED)):
        raise UserError(
            "output.file",
            f"{surface.path} was begun with the batch {batch} and the engine {engine}",
            expected=f"a whole number >= 1 and one of {', '.join(ENGINES)}",
            remedy="the file is damaged or of another version",
        )


def new_surface(
    experiment: Experiment, plane: Plane, identity: Identity, attributes: Mapping[str, str | int | float]
) -> NewSurface:
    """Return all that a new surface file holds before its first result; `attributes`: what is recorded of the run."""
    job, statistics = experiment.job.values, plane.statistics
    recorded: dict[str, str | int | float] = {"seed": identity.seed}
    if identity.seed >= 0:
        recorded |= _recipe(plane, job.plane)
    recorded |= {**identity.recorded, **identity.facts, **attributes, "job_name": experiment.job.path.name}
    settings = shlex.join(experiment.job.settings)
    if 0 < len(settings) <= MOST_SETTINGS:
        recorded["job_settings"] = settings
    if identity.shard:
        recorded["shard"] = str(identity.shard)
    return NewSurface(
        axes=job.chosen_grid.coordinates(),
        results=result_names(job.data.splits, experiment.task.metrics, sampled=job.sampling is not None),
        directions=tuple(map(rows_of, plane.directions)) if are_kept(job.output, plane) else (),
        buffers=tuple(map(rows_of, statistics.directions)) if statistics else (),
        job=experiment.job.text,
        attributes=recorded,
        trajectory=identity.trajectory,
        within=job.within,
    )


def are_kept(output: Output, plane: Plane) -> bool:
    """Return whether the file holds the directions."""
    if output.directions != "auto" or not all(isinstance(one, DrawnDirection) for one in plane.directions):
        return bool(output.directions)
    numbers = sum(real(tensor).numel() for tensor in plane.theta.values()) * len(plane.directions)
    return numbers * torch.float32.itemsize <= MOST_DIRECTIONS


def file_size(experiment: Experiment, plane: Plane) -> tuple[int, bool]:
    """Return about how many bytes the surface file has, and whether the directions are in it."""
    job = experiment.job.values
    names = result_names(job.data.splits, experiment.task.metrics, sampled=job.sampling is not None)
    results = sum(math.prod(job.within[axis] for axis in axes_of(name)) for name in names)
    each = 8 * results + 1 + 8 + 4 + LONGEST  # results, status, seconds, rank, note
    size = HEAD + ENTRY * len(names) + math.prod(job.chosen_grid.shape) * each + len(experiment.job.text.encode())
    kept = are_kept(job.output, plane)
    if kept:
        along = plane.statistics.theta if plane.statistics else {}
        tensors = [*plane.theta.values(), *along.values()] * len(plane.directions)
        size += sum(4 * (1 + tensor.is_complex()) * tensor.numel() + ENTRY for tensor in tensors)
    return size, kept


def _recipe(plane: Plane, section: Section | None) -> dict[str, str]:
    """Return what the directions of a random plane are drawn by, and a fingerprint of each."""
    recipe = {"generator": GENERATOR}
    if isinstance(section, RandomPlane):
        recipe |= {
            "normalize": section.normalize,
            "ignore": json.dumps(section.ignore),
            "only": json.dumps(section.only),
        }
    for letter, direction in zip(LETTERS, plane.directions, strict=False):
        if isinstance(direction, DrawnDirection):
            recipe[f"{letter}direction_sha256"] = direction.fingerprint()
    return recipe


def rows_of(direction: Parameters) -> Iterator[Rows]:
    """Yield a direction as a file holds it: float32, complex numbers as pairs; a drawn one a few rows at a time."""
    for name in direction:
        if isinstance(direction, DrawnDirection):
            pieces = (piece.numpy() for piece in direction.pieces(name))
            yield Rows(name, tuple(real(direction.theta[name]).shape), pieces)
        else:
            array = real(single(direction[name])).numpy()
            yield Rows(name, array.shape, [array])
