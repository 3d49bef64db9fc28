"""Says what a job would do and cost, having loaded all of it and timed a little; writes nothing."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import nn

from landscape_mpi.assemble import keep_memory
from landscape_mpi.engines import CannotFuseError, build_engine, candidates, kernel_is_missing
from landscape_mpi.errors import from_here
from landscape_mpi.evaluate import EagerEvaluator, Evaluator
from landscape_mpi.evaluate.live import Streaming
from landscape_mpi.job import AXES, Grid, HessianPlane, Sampling, SweepJob, load_job
from landscape_mpi.log import clock_time, noter
from landscape_mpi.mpi.launcher import free_memory
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import Plane
from landscape_mpi.sampling import prefixes
from landscape_mpi.surface import Trajectory, check_writable
from landscape_mpi.sweeping.choose_engine import choose_batch
from landscape_mpi.sweeping.curvature import forecast
from landscape_mpi.sweeping.load import Experiment, JobSource, load_experiment
from landscape_mpi.sweeping.memory import SHARE, check_room, is_streamed, measured, needs_of, weights_of
from landscape_mpi.sweeping.planes.build import build_plane, output_path, repeats
from landscape_mpi.sweeping.resume import file_size, find_surface

AUTO = (
    "auto: as far as the loss rises by 1 nat, or doubles where it is not in nats; found before the first point, "
    "on 2,000 examples at most"
)
"""What is said of a range that no file holds yet."""


def check(path: Path, device: str, ranks: int = 1) -> str:
    """Return what `check` prints: points, examples, estimated time and memory, and the state of the output.

    `ranks`: how many of a node's are to sweep it.

    Raises:
        UserError: whatever `sweep` would refuse.
    """
    job = load_job(path, SweepJob)
    outputs = [output_path(job, repeat) for repeat in range(repeats(job.values))]
    for output in outputs:
        check_writable(output)
    world, free = Solo(), free_memory()
    keep_memory()
    experiment = load_experiment(job, JobSource(job, noter(world)), device, world)
    lines = []
    for repeat, output in enumerate(outputs):
        there, plane, identity = build_plane(world, experiment, repeat, output, search=False)
        surface = find_surface(output, there.job.values, identity)
        state = f"{surface.done} of {surface.points} points are there" if surface else "will be created"
        lines.append(("output", f"{output}, {state}"))
    to_find = isinstance(job.values.plane, HessianPlane) and surface is None
    lines += _describe(there, plane, identity.trajectory, to_find)
    grid = job.values.planned_grid
    if grid is not None and grid.is_open:
        lines.append(("grid", _ranges(there.job.values.chosen_grid) if surface else AUTO))
    if not isinstance(there.theta.network, nn.Module):
        check_room(weights_of(there), ranks, free, streamed=is_streamed(there, ranks, free))
    lines += _estimate(there, plane, to_find, ranks, free)
    text = "".join(f"  {label:16} {found}\n" for label, found in lines)
    return from_here(f"{path}: the job is sound.\n{text}")


def _ranges(grid: Grid) -> str:
    axes = zip(AXES, grid.axes, strict=False)
    return ", ".join(f"{name} {axis.first:g} to {axis.last:g} in {axis.points} points" for name, axis in axes)


def _describe(
    experiment: Experiment, plane: Plane, trajectory: Trajectory | None, to_find: bool
) -> Iterator[tuple[str, str]]:
    """Yield what would be swept, as labels and texts; `to_find`: eigenvectors are still to be searched for."""
    job, grid = experiment.job.values, experiment.job.values.chosen_grid
    yield "device", str(experiment.device)
    numbers = sum(tensor.numel() for tensor in plane.theta.values())
    yield "network", f"{job.model.build}, {numbers:,} parameters in {len(plane.theta)} tensors"
    angle = "eigenvectors still to be found" if to_find else f"cosine of delta and eta {plane.cosine(0, 1):.4g}"
    yield "plane", f"{job.plane.__struct_config__.tag}, {angle}"
    if trajectory is not None:  # which may have chosen the grid
        explained = zip(AXES, trajectory.explained, strict=False)
        shares = "".join(f", {share:.1%} of the variance along {name}" for name, share in explained)
        epochs = f"epochs {trajectory.epoch.min()} to {trajectory.epoch.max()}"
        yield "trajectory", f"{trajectory.epoch.size} checkpoints, {epochs}{shares}"
        yield "grid", _ranges(grid)
    yield "points", f"{math.prod(grid.shape):,} ({' x '.join(map(str, grid.shape))})"
    yield "examples a point", ", ".join(f"{len(split):,} {name}" for name, split in experiment.splits.items())
    statistics = {
        "keep": "running statistics of the checkpoint" if experiment.theta.statistics else "no running statistics",
        "move": "running statistics move along with the parameters",
        "recompute": "running statistics estimated at every point, "
        f"from {experiment.calibration_examples:,} training examples",
    }
    yield "batch norm", statistics[job.evaluate.batchnorm]


def _estimate(
    experiment: Experiment, plane: Plane, to_find: bool, ranks: int, free: int | None
) -> Iterator[tuple[str, str]]:
    """Yield what a sweep would take of time and memory, as labels and texts; times one batch, and one product.

    `ranks`: how many of this node are to sweep; `free`: bytes of memory that it had free before, None for unknown.
    """
    job, batch = experiment.job.values, choose_batch(Solo(), experiment)
    evaluator = _fastest_evaluator(experiment, plane, batch)
    yield "engine", evaluator.description
    curvature_seconds = curvature_megabytes = 0.0
    if "hessian" in job.metrics or to_find:
        search = forecast(experiment, plane, batch)
        yield "hessian", search.text
        if to_find:
            yield "plane takes", f"about {clock_time(search.seconds)}, before the first point; all ranks share it"
        curvature_seconds = search.seconds if "hessian" in job.metrics else 0.0
        curvature_megabytes = search.megabytes
    points, planes = math.prod(job.chosen_grid.shape), repeats(job)
    examples = {name: len(split) for name, split in experiment.splits.items()}
    least = sum(examples.values()) * points
    if job.sampling is not None:
        text, least = _first_level(job.sampling, examples, points)
        yield "sampling", text
    split = job.data.splits[0]
    some = slice(0, min(batch, evaluator.count(split)))
    activations = measured(partial(evaluator.per_example, evaluator.centre, split, some))  # the first batch warms up
    started = time.perf_counter()
    evaluator.per_example(evaluator.centre, split, some)
    seconds = (time.perf_counter() - started) / some.stop
    again = experiment.calibration_examples  # at every point, for running statistics
    each = seconds * (sum(examples.values()) + again) + curvature_seconds
    total = clock_time(each * points * planes)
    if job.sampling is None:
        yield "time", f"about {each:.3g} s a point, {total} on one rank like this one"
    else:
        shortest = clock_time(seconds * (least + again * points) * planes)
        yield "time", f"{shortest} at the least, {total} at the most, on one rank like this one"
    more = {"activations": activations, "products of the Hessian": int(1e6 * curvature_megabytes)}
    yield from _memory(experiment, plane, evaluator, more, ranks, free)
    size, kept = file_size(experiment, plane)
    where = "with the directions" if kept else "without the directions, which are drawn again from what it records"
    yield "file", f"about {_bytes(size)}, {where}"


def _memory(
    experiment: Experiment, plane: Plane, evaluator: Evaluator, more: Mapping[str, int], ranks: int, free: int | None
) -> Iterator[tuple[str, str]]:
    """Yield what a rank and the node take, and how the weights of a large network are held."""
    streamed = False
    if not isinstance(network := experiment.theta.network, nn.Module):
        weights, streamed = weights_of(experiment), is_streamed(experiment, ranks, free)
        if isinstance(network, Streaming):  # what a batch was seen to take has the layers in it
            more = {**more, "activations": max(more["activations"] - weights.streamed, 0)}
        how = f"streamed, the largest layer twice: {_bytes(weights.streamed)} a rank" if streamed else "resident"
        later = ""
        if not streamed and free is not None and experiment.job.values.evaluate.weights == "auto":
            later = f"; streamed from {int(SHARE * free // weights.resident) + 1} ranks a node on"
        yield "weights", f"{how}{later}"
    needs = needs_of(experiment, plane, evaluator, more, streamed=streamed)
    parts, once = (
        ", ".join(f"{name} {_bytes(size)}" for name, size in found.items()) for found in (needs.rank, needs.node)
    )
    each, of_node = sum(needs.rank.values()) / 1e6, sum(needs.node.values()) / 1e6
    yield "memory", f"about {each:,.0f} MB a rank ({parts}), {of_node:,.0f} MB once a node ({once})"
    if free is not None:
        many = f"{ranks} rank{'s take' if ranks > 1 else ' takes'}"
        yield "this node", f"{many} about {_bytes(needs.total(ranks))} of {_bytes(free)} that are free"


def _bytes(size: float) -> str:
    """Return a number of bytes in words.

    >>> _bytes(27_573), _bytes(3_205_000), _bytes(13_477_000_000)
    ('28 KB', '3.2 MB', '13.5 GB')
    """
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if size >= pair[0]), (1e3, "KB"))
    digits = 0 if unit == 1e3 or size >= 100 * unit else 1
    return f"{size / unit:,.{digits}f} {name}"


def _first_level(sampling: Sampling, examples: Mapping[str, int], points: int) -> tuple[str, int]:
    """Say what a sampled sweep begins with, and return how many examples it evaluates at the least, with the audit."""
    firsts = {name: prefixes(sampling.error, count)[0] for name, count in examples.items()}
    begins = ", ".join(f"{firsts[name]:,} of {count:,} {name}" for name, count in examples.items())
    audited = min(sampling.audit, points)
    least = sum(points * firsts[name] + audited * (count - firsts[name]) for name, count in examples.items())
    return f"bars of {sampling.error:.3g}: at first {begins} examples a point; {sampling.audit} points on all", least


def _fastest_evaluator(experiment: Experiment, plane: Plane, batch: int) -> Evaluator:
    """Return the fastest engine that can be built; whether it agrees with the plain network is for `sweep` to see."""
    task, network = experiment.task, experiment.theta.network
    if not isinstance(network, nn.Module):
        return EagerEvaluator(network, plane, task, batch)
    for name in candidates(experiment.job.values.evaluate.engine, task, plane):
        if not kernel_is_missing(name):
            with suppress(CannotFuseError):
                return build_engine(name, network, plane, task, batch)
    return EagerEvaluator(network, plane, task, batch)
