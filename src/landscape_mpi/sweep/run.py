"""The sweep from job to finished surface: the order of the steps, each of which lives elsewhere."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from landscape_mpi.errors import Exit
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.plane import Plane
from landscape_mpi.surface import DONE, Surface, check_writable, create_surface, lock_surface, open_writer
from landscape_mpi.sweep.centre import check_centre
from landscape_mpi.sweep.experiment import Experiment, load_experiment
from landscape_mpi.sweep.order import coarse_to_fine
from landscape_mpi.sweep.output import Identity, find_surface, new_surface
from landscape_mpi.sweep.points import Computer, Grid, compute_points
from landscape_mpi.sweep.prepare import batch_size, output_path, repeats
from landscape_mpi.sweep.progress import Progress
from landscape_mpi.sweep.provenance import attributes
from landscape_mpi.sweep.world import World, on_root, tell, together


@dataclass(frozen=True)
class Options:
    """The operational flags of a sweep; none of them is part of the experiment."""

    device: str = "auto"
    overwrite: bool = False
    quiet: bool = False


def sweep(path: Path, options: Options, world: World) -> Exit:
    """Compute every point of a job that its surface files do not hold yet; collective.

    Raises:
        UserError: a mistake in the job or in what it points at; nothing has been written.
        CentreMismatchError: f(0, 0) is not the loss of the checkpoint; nothing has been written.
    """
    job = on_root(world, lambda: load_job(path, SweepJob))
    for repeat in range(repeats(job.values)):
        on_root(world, lambda repeat=repeat: check_writable(output_path(job, repeat)))  # type: ignore[misc]
    experiment = load_experiment(job, options.device, world)
    for repeat in range(repeats(job.values)):
        _sweep_plane(experiment, repeat, options, world)
    return Exit.COMPLETE


def _sweep_plane(experiment: Experiment, repeat: int, options: Options, world: World) -> None:
    path = output_path(experiment.job, repeat)
    plane, identity = experiment.plane(world, repeat)
    _find(world, path, identity, options)  # another sweep's file is refused before a lock lies beside it
    with ExitStack() as held:
        on_root(world, lambda: held.enter_context(lock_surface(path)))
        surface = _find(world, path, identity, options)
        if surface is not None and surface.complete:
            tell(world, f"{path}: all {surface.points} points are there; nothing to do.")
        else:
            _fill(experiment, path, plane, identity, surface, options, world)


def _find(world: World, path: Path, identity: Identity, options: Options) -> Surface | None:
    return on_root(world, lambda: None if options.overwrite else find_surface(path, identity))


def _fill(
    experiment: Experiment,
    path: Path,
    plane: Plane,
    identity: Identity,
    surface: Surface | None,
    options: Options,
    world: World,
) -> None:
    """Check the centre, create the file where there is none, and compute what is missing."""
    job = experiment.job.values
    batch = int(str(surface.attributes["batch"])) if surface else batch_size(job, experiment.device)
    evaluator = experiment.evaluator(plane, batch)
    centre = check_centre(world, experiment.theta.network, evaluator, experiment.task, batch, job.metrics)
    tell(world, f"f(0, 0): {_describe(centre)}")
    if surface is None:
        on_root(world, lambda: _create(experiment, path, plane, identity, batch))
    writer = together(world, lambda: open_writer(path, world.communicator, world.rank == 0))
    order = [i for i in coarse_to_fine(job.grid.shape) if surface is None or surface.status[i] != DONE]
    tell(world, _plan(path, order, surface, world))
    beta = None if job.grid.beta is None else job.grid.beta.coordinates()
    grid = Grid(job.grid.alpha.coordinates(), beta)
    compute = Computer(world, evaluator, grid, job.data.splits, job.metrics)
    done = surface.done if surface else 0
    progress = Progress(done + len(order), done, None if options.quiet else sys.stderr)
    compute_points(world, order, compute, writer, progress.step)
    writer.finish(world.meet, complete=True)
    tell(world, f"{path}: complete. Draw it: landscape-plot {path}")


def _create(experiment: Experiment, path: Path, plane: Plane, identity: Identity, batch: int) -> None:
    job = experiment.job
    evaluate = job.values.evaluate
    fixed = {"dtype": evaluate.dtype, "engine": "eager", "batch": batch, "batchnorm": evaluate.batchnorm}
    provenance = attributes(plane, experiment.device, job.path.parent)
    create_surface(path, new_surface(identity, plane, {**fixed, **provenance}))


def _describe(values: Mapping[str, float]) -> str:
    shown = [f"{name} {value:.6g}" for name, value in values.items() if not name.endswith("_stderr")]
    return ", ".join(shown).replace("_", " ") + "; the plane and the checkpoint agree."


def _plan(path: Path, order: list[tuple[int, ...]], surface: Surface | None, world: World) -> str:
    found = f"{surface.done} points are there, {len(order)} to do" if surface else f"{len(order)} points"
    return f"{path}: {found}, on {world.size} rank{'s' if world.size > 1 else ''}."
