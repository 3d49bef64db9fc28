"""What a job would do and cost, found out by loading all of it and timing a little; writes nothing."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from landscape_mpi.assemble import keep_memory
from landscape_mpi.data.rows import nbytes
from landscape_mpi.engines import CannotFuseError, build_engine, candidates, kernel_is_missing
from landscape_mpi.errors import from_here
from landscape_mpi.evaluate import EagerEvaluator, Evaluator, Point
from landscape_mpi.job import Grid, HessianPlane, Sampling, SweepJob, load_job
from landscape_mpi.log import noter
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import Plane
from landscape_mpi.sampling import prefixes
from landscape_mpi.surface import Trajectory, check_writable
from landscape_mpi.sweeping.batch_size import choose_batch
from landscape_mpi.sweeping.curvature import NO_SEARCH, forecast
from landscape_mpi.sweeping.experiment import Experiment, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane, output_path, repeats
from landscape_mpi.sweeping.progress import clock_time
from landscape_mpi.sweeping.resume import find_surface
from landscape_mpi.sweeping.sources import Named

AXES = ("alpha", "beta")


def check(path: Path, device: str) -> str:
    """Return what `check` prints: points, images, estimated time and memory, and the state of the output.

    Raises:
        UserError: whatever `sweep` would refuse.
    """
    job = load_job(path, SweepJob)
    for repeat in range(repeats(job.values)):
        check_writable(output_path(job, repeat))
    world = Solo()
    keep_memory()
    experiment = load_experiment(job, Named(job, noter(world)), device, world)
    lines: list[str] = [f"{path}: the job is sound."]
    for repeat in range(repeats(job.values)):
        output = output_path(job, repeat)
        plane, identity = build_plane(world, experiment, repeat, output, search=False)
        surface = find_surface(output, identity)
        state = f"{surface.done} of {surface.points} points are there" if surface else "will be created"
        lines.append(_line("output", f"{output}, {state}"))
    described = _description(replace(experiment, job=identity.job), plane, identity.trajectory, surface is not None)
    return from_here("\n".join([*lines, *described]) + "\n")


def _description(experiment: Experiment, plane: Plane, path: Trajectory | None, begun: bool) -> Iterator[str]:
    job = experiment.job.values
    points = math.prod(job.chosen_grid.shape)
    yield _line("device", str(experiment.device))
    yield _line("network", f"{job.model.build}, {_count(plane):,} parameters in {len(plane.theta)} tensors")
    to_find = isinstance(job.plane, HessianPlane) and not begun
    angle = "eigenvectors still to be found" if to_find else f"cosine of delta and eta {plane.cosine:.4g}"
    yield _line("plane", f"{job.plane.__struct_config__.tag}, {angle}")
    if path is not None:
        yield _line("trajectory", _trajectory(path))
        yield _line("grid", ", ".join(f"{name} {axis}" for name, axis in _axes(job.chosen_grid)))
    yield _line("points", f"{points:,} ({' x '.join(map(str, job.chosen_grid.shape))})")
    images = {name: len(split) for name, split in experiment.splits.items()}
    yield _line("images a point", ", ".join(f"{count:,} {name}" for name, count in images.items()))
    yield _line("batch norm", _batchnorm(experiment))
    batch = choose_batch(Solo(), experiment)
    evaluator = _evaluator(experiment, plane, batch)
    yield _line("engine", evaluator.description)
    search = forecast(experiment, plane, batch) if "hessian" in job.metrics or to_find else NO_SEARCH
    if search.text:
        yield _line("hessian", search.text)
    if to_find:
        yield _line("plane takes", f"about {clock_time(search.seconds)}, before the first point; all ranks share it")
    if job.sampling is not None:
        yield _line("sampling", _sampling(job.sampling, images))
    curved = search.seconds if "hessian" in job.metrics else 0.0
    seconds = _seconds_an_image(evaluator, job.data.splits[0], batch)
    yield _line("time", _time(job, images, seconds, experiment.anew, curved))
    memory = _megabytes(plane, evaluator) + search.megabytes
    yield _line("memory", f"about {memory:,.0f} MB a rank, {_data(experiment):,.0f} MB a node for data")


def _batchnorm(experiment: Experiment) -> str:
    """Say where the running statistics at a point come from."""
    return {
        "keep": "running statistics of the checkpoint" if experiment.theta.statistics else "no running statistics",
        "move": "running statistics move along with the parameters",
        "recompute": f"running statistics estimated at every point, from {experiment.anew:,} training images",
    }[experiment.job.values.evaluate.batchnorm]


def _time(job: SweepJob, images: Mapping[str, int], seconds: float, anew: int, curved: float) -> str:
    """Estimate how long the sweep takes, from the seconds of an image and those of the curvature of a point.

    `anew` more images go to running statistics at every point.
    """
    points = math.prod(job.chosen_grid.shape) * repeats(job)
    each = seconds * (sum(images.values()) + anew) + curved
    total = clock_time(each * points)
    if job.sampling is None:
        return f"about {each:.3g} s a point, {total} on one rank like this one"
    least = _least(job.sampling, images, math.prod(job.chosen_grid.shape)) * repeats(job) + anew * points
    return f"{clock_time(seconds * least)} at the least, {total} at the most, on one rank like this one"


def _trajectory(path: Trajectory) -> str:
    shares = "".join(
        f", {share:.1%} of the variance along {name}" for name, share in zip(AXES, path.explained, strict=False)
    )
    return f"{path.epoch.size} checkpoints, epochs {path.epoch.min()} to {path.epoch.max()}{shares}"


def _axes(grid: Grid) -> Iterator[tuple[str, str]]:
    """Name the axes of the grid, which the trajectory may have chosen, with their ranges."""
    for name, axis in zip(AXES, (grid.alpha, grid.beta), strict=True):
        if axis is not None:
            yield name, f"{axis.first:g} to {axis.last:g} in {axis.points} points"


def _sampling(sampling: Sampling, images: Mapping[str, int]) -> str:
    """Say what a sampled sweep begins with; how much more it takes only its results can tell."""
    first = [f"{prefixes(sampling.error, n)[0]:,} of {n:,} {name}" for name, n in images.items()]
    return f"bars of {sampling.error:.3g}: at first {', '.join(first)} images a point; {sampling.audit} points on all"


def _least(sampling: Sampling, images: Mapping[str, int], points: int) -> int:
    """Return how many image evaluations a sampled sweep takes at the least: the first level and the audit."""
    audited = min(sampling.audit, points)
    firsts = {name: prefixes(sampling.error, n)[0] for name, n in images.items()}
    return sum(points * firsts[name] + audited * (n - firsts[name]) for name, n in images.items())


def _evaluator(experiment: Experiment, plane: Plane, batch: int) -> Evaluator:
    """Return the fastest engine that can be built; whether it agrees with the plain network is for `sweep` to see."""
    task, network = experiment.task, experiment.theta.network
    for name in candidates(experiment.job.values.evaluate.engine, task, plane):
        if not kernel_is_missing(name):
            with suppress(CannotFuseError):
                return build_engine(name, network, plane, task, batch)
    return EagerEvaluator(network, plane, task, batch)


def _seconds_an_image(evaluator: Evaluator, split: str, batch: int) -> float:
    """Time the second of two batches: the first one warms up."""
    images = slice(0, min(batch, evaluator.count(split)))
    evaluator.per_image(Point(0.0, 0.0), split, images)
    started = time.perf_counter()
    evaluator.per_image(Point(0.0, 0.0), split, images)
    return (time.perf_counter() - started) / images.stop


def _count(plane: Plane) -> int:
    return sum(tensor.numel() for tensor in plane.theta.values())


def _megabytes(plane: Plane, evaluator: Evaluator) -> float:
    """Estimate what a rank holds: theta, delta, eta, the network, what the engine makes of them, and torch itself."""
    torch_itself = 250.0
    return torch_itself + (4 * 4 * _count(plane) + evaluator.nbytes) / 1e6


def _data(experiment: Experiment) -> float:
    splits = experiment.splits.values()
    return sum(nbytes(rows) for split in splits for rows in (split.inputs, split.targets)) / 1e6


def _line(label: str, text: str) -> str:
    return f"  {label:16} {text}"
