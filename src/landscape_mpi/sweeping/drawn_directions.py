"""Draws the directions of a random plane again, for a surface that holds only what they are drawn by."""

from collections.abc import Iterator
from pathlib import Path

import torch
from msgspec import structs

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import absolute, check_input, is_there
from landscape_mpi.job import JobFile, RandomPlane, SweepJob
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks import sha256
from landscape_mpi.plane import GENERATOR, Parameters
from landscape_mpi.plane.directions import DrawnDirection
from landscape_mpi.surface.directions import RECORDED, write_directions
from landscape_mpi.surface.identity import job_of
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import LETTERS
from landscape_mpi.sweeping.load import JobSource
from landscape_mpi.sweeping.planes.random import random_plane
from landscape_mpi.sweeping.resume import rows_of
from landscape_mpi.sweeping.theta import theta_of

CHECKPOINT = "model.checkpoint"
MADE_IN_PYTHON = "python:"
"""What `data.build` begins with in the job of a sweep from Python."""


def draw_directions(source: Path, target: Path, job: Path | None = None, checkpoint: Path | None = None) -> None:
    """Write the directions of a random plane into a direction file, drawn by the recipe that its surface holds.

    Args:
        source: the surface.
        target: the direction file.
        job: the job file; the paths of the job that the surface holds start in its folder. None to look for the folder.
        checkpoint: theta*, where it has moved; None for the one that the job names.

    Raises:
        UserError: the surface has no recipe, theta* is missing or is another file, or the target cannot be written.
    """
    surface = read_surface(source)
    recorded, section = surface.attributes, _section(surface)
    found = _placed(surface, job_of(surface), job, checkpoint)
    theta, fingerprint = _theta(found)
    if fingerprint != recorded.get("checkpoint_sha256"):
        raise UserError(
            CHECKPOINT,
            f"{found.resolve(found.values.model.checkpoint)} is another file than theta* of {source} "
            "(checkpoint_sha256 differs)",
            remedy=("name the right one: ", Flag("checkpoint", ("FILE",))),
        )
    directions = random_plane(Solo(), section, theta, len(surface.axes)).directions
    groups = {}
    for letter, direction in zip(LETTERS, directions, strict=False):
        if not isinstance(direction, DrawnDirection):
            raise TypeError("a random direction is drawn")
        if direction.fingerprint() != recorded.get(f"{letter}direction_sha256"):
            raise UserError(
                "plane",
                f"what is drawn here is not the direction of {source} ({letter}direction_sha256 differs)",
                expected="the network of the job, as it was when it was swept",
            )
        groups[f"{letter}direction"] = rows_of(direction)
    known = {name: value for name in RECORDED if isinstance(value := recorded.get(name), str | int | float)}
    write_directions(target, groups, known)


def _section(surface: Surface) -> RandomPlane:
    """Return how the directions of a surface are drawn; its seed counts the repeats of the job.

    Raises:
        UserError: they cannot be drawn here.
    """
    job, attributes = job_of(surface).values, surface.attributes
    seed = attributes.get("seed")
    if not isinstance(job.plane, RandomPlane) or not isinstance(seed, int):
        raise UserError(
            surface.path,
            "holds no directions, and those of its plane are not drawn at random",
            remedy="sweep it with output.directions: true",
        )
    if (generator := attributes.get("generator")) != GENERATOR:
        raise UserError(
            surface.path,
            f"holds no directions, and they were drawn by the generator {generator}, which this version lacks",
            expected=f"{GENERATOR}",
            remedy="use the version that swept it",
        )
    if job.data.build.startswith(MADE_IN_PYTHON):
        raise UserError(
            surface.path,
            "was swept from Python, so that nothing says where its network is",
            remedy="call landscape_mpi.sweep again with directions of your own, or draw them there: docs/random.md",
        )
    return structs.replace(job.plane, seed=seed)


def _placed(surface: Surface, job: JobFile[SweepJob], file: Path | None, checkpoint: Path | None) -> JobFile[SweepJob]:
    """Return the surface's job at the folder where its relative paths start, which the surface does not know.

    Without a job file, these folders are searched: the folder from which `output.file` leads to the surface, the folder
    of the surface, and the working directory. The first that holds the checkpoint is taken; where several hold it,
    the one that holds the right file.

    Raises:
        UserError: a file that was named is not there, or the checkpoint is in none of the folders.
    """
    values = job.values
    if file is not None:
        check_input(file, Flag("job"), "the job file")
    if checkpoint is not None:
        model = structs.replace(values.model, checkpoint=str(absolute(checkpoint, Path())))
        values = structs.replace(values, model=model)
    # only which tensors of which file theta* is matters here, not what a rank holds
    if values.evaluate.weights == "auto":
        values = structs.replace(values, evaluate=structs.replace(values.evaluate, weights="resident"))
    folders = [file.absolute().parent] if file else _folders(surface.path.absolute(), values.output.file)
    jobs = [JobFile(folder / "job.yaml", job.text, values) for folder in dict.fromkeys(folders)]
    places = {one.resolve(values.model.checkpoint): one for one in reversed(jobs)}
    there = [place for place in reversed(places) if is_there(place, CHECKPOINT)]
    if not there:
        shown = ", ".join(str(one.path.parent) for one in jobs)
        raise UserError(
            CHECKPOINT,
            f"found no {values.model.checkpoint} from {shown} on",
            expected=f"theta* of {surface.path}, by which its directions are drawn",
            remedy=(
                "say where the job file is, ",
                Flag("job", ("FILE",)),
                ", or theta*, ",
                Flag("checkpoint", ("FILE",)),
            ),
        )
    wanted = surface.attributes.get("checkpoint_sha256")
    right = [place for place in there if sha256(place) == wanted] if len(there) > 1 else there
    return places[next(iter(right or there))]


def _folders(surface: Path, output: str) -> Iterator[Path]:
    """Yield where the job file may have been, the likeliest folder first."""
    below = Path(output).parent.parts
    if not Path(output).is_absolute() and below == surface.parent.parts[len(surface.parent.parts) - len(below) :]:
        yield surface.parents[len(below)]
    yield surface.parent
    yield Path.cwd()


def _theta(job: JobFile[SweepJob]) -> tuple[Parameters, str]:
    """Return the parameters of theta* as the sweep had them, and the fingerprint of their file.

    Raises:
        UserError: the network cannot be built, or the checkpoint does not fit it.
    """
    source = JobSource(job)
    opened = source.large(job.values, Solo())
    if opened is not None:
        return opened.parameters, opened.sha256
    network, fingerprint = source.network()
    theta = theta_of(network, fingerprint, job.values.evaluate, torch.device("cpu"))
    return theta.parameters, fingerprint
