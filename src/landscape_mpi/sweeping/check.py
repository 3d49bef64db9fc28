"""Loads all of a job, times a little of it, and says what a sweep would do and cost; writes nothing."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from landscape_mpi.assemble import keep_memory
from landscape_mpi.engines import CannotFuseError, build_engine, candidates, kernel_is_missing
from landscape_mpi.errors import UserError, from_here
from landscape_mpi.evaluate import EagerEvaluator, Evaluator
from landscape_mpi.evaluate.live import Streaming
from landscape_mpi.evaluate.streamable import REMEDY
from landscape_mpi.job import AXES, CurvePlane, Grid, HessianPlane, SweepJob, WorstPlane, load_job
from landscape_mpi.log import clock_time, noter
from landscape_mpi.mpi.launcher import choose_device
from landscape_mpi.mpi.world import Solo, check_teams
from landscape_mpi.plane import Plane
from landscape_mpi.sampling import pilot_points, prefixes
from landscape_mpi.surface import Trajectory, check_writable
from landscape_mpi.sweeping.choose_engine import choose_batch
from landscape_mpi.sweeping.curvature import USUAL, forecast
from landscape_mpi.sweeping.large import GROUPS
from landscape_mpi.sweeping.load import Experiment, JobSource, load_experiment
from landscape_mpi.sweeping.memory import (
    SHARE,
    Look,
    Room,
    check_room,
    is_streamed,
    measured,
    needs_of,
    room_of,
    sharing,
    weights_of,
)
from landscape_mpi.sweeping.planes.build import build_plane, output_path, repeats
from landscape_mpi.sweeping.planes.worst import gradient_of
from landscape_mpi.sweeping.resume import file_size, find_surface

AUTO = (
    "auto: as far as the loss rises by 1 nat, or doubles where it is not in nats; found before the first point, "
    "on 2,000 examples at most"
)
"""The text for a range that no file holds yet."""
TO_FIND = {HessianPlane: "eigenvectors", WorstPlane: "steepest ascent", CurvePlane: "bend"}
"""What a sweep searches for before it has a plane, by the kind of plane."""
PASSES = 3
"""The time of an example's gradient in evaluations: a forward pass, and a backward pass that takes twice as long."""


@dataclass(frozen=True)
class Memory:
    """What memory there is for a sweep by some ranks of this node.

    Attributes:
        ranks: How many ranks are to sweep.
        group: How many ranks hold a network together.
        node: The memory of the node.
        room: The memory in which weights lie.
        sharing: How many ranks share the memory in which weights lie.
    """

    ranks: int
    group: int
    node: Room
    room: Room
    sharing: int

    @staticmethod
    def seen(asked: str, ranks: int, group: int, host: str, look: Look = room_of) -> "Memory":
        """Return the memory as it is before anything is taken; `asked`: the device that was asked for."""
        devices = torch.cuda.device_count()
        device = torch.device(choose_device(asked, 0, devices))
        node, room = look(torch.device("cpu"), host), look(device, host)
        return Memory(ranks, group, node, room, sharing(ranks, device, devices, one=":" in asked))


def check(path: Path, device: str, ranks: int = 1, group: int | None = None, settings: tuple[str, ...] = ()) -> str:
    """Return what `check` prints: points, examples, estimated time and memory, and the state of the output.

    `ranks`: how many ranks of a node are to sweep. `group`: how many of them hold a network together. `settings`:
    `KEY=VALUE`, in place of what the job file says.

    Raises:
        UserError: whatever `sweep` would refuse.
    """
    job = load_job(path, SweepJob, settings)
    outputs = [output_path(job, repeat) for repeat in range(repeats(job.values))]
    for output in outputs:
        check_writable(output)
    world = Solo()
    if group is not None:
        check_teams(group, [world.host] * ranks)
    memory = Memory.seen(device, ranks, group or 1, world.host)
    keep_memory()
    try:
        experiment = load_experiment(job, JobSource(job, noter(world)), device, world, group=group)
    except UserError as error:
        if group and error.remedy == REMEDY:  # a network that cannot be streamed cannot be held by a group
            error.remedy = GROUPS
        raise
    lines = []
    for repeat, output in enumerate(outputs):
        there, plane, identity = build_plane(world, experiment, repeat, output, search=False)
        surface = find_surface(output, there.job.values, identity)
        state = f"{surface.done} of {surface.points} points are there" if surface else "will be created"
        lines.append(("output", f"{output}, {state}"))
    to_find = "" if surface else TO_FIND.get(type(job.values.plane), "")
    lines += _describe(there, plane, identity.trajectory, to_find)
    grid = job.values.planned_grid
    if grid is not None and grid.is_open:
        lines.append(("grid", _ranges(there.job.values.chosen_grid) if surface else AUTO))
    if not isinstance(there.theta.network, nn.Module):
        streamed = is_streamed(there, memory.sharing, memory.room.free, memory.group)
        here = replace(memory.room, words=f"this {memory.room.unit}")
        check_room(weights_of(there), memory.sharing, here, streamed=streamed, group=memory.group, of_node=ranks)
    lines += _estimate(there, plane, to_find, memory)
    text = "".join(f"  {label:18} {found}\n" for label, found in lines)
    return from_here(f"{path}: the job is sound.\n{text}")


def _ranges(grid: Grid) -> str:
    axes = zip(AXES, grid.axes, strict=False)
    return ", ".join(f"{name} {axis.first:g} to {axis.last:g} in {axis.points} points" for name, axis in axes)


def _describe(
    experiment: Experiment, plane: Plane, trajectory: Trajectory | None, to_find: str
) -> Iterator[tuple[str, str]]:
    """Yield what would be swept, as labels and texts; `to_find`: what the sweep will have to search for."""
    job, grid = experiment.job.values, experiment.job.values.chosen_grid
    yield "device", str(experiment.device)
    numbers = sum(tensor.numel() for tensor in plane.theta.values())
    yield "network", f"{job.model.build}, {numbers:,} parameters in {len(plane.theta)} tensors"
    angle = f"{to_find} still to be found" if to_find else f"cosine of delta and eta {plane.cosine(0, 1):.4g}"
    yield "plane", f"{job.plane.__struct_config__.tag}, {angle}"
    if trajectory is not None:  # it may have chosen the grid
        explained = zip(AXES, trajectory.explained, strict=False)
        shares = "".join(f", {share:.1%} of the variance along {name}" for name, share in explained)
        epochs = f"epochs {trajectory.epoch.min()} to {trajectory.epoch.max()}"
        yield "trajectory", f"{trajectory.epoch.size} checkpoints, {epochs}{shares}"
        yield "grid", _ranges(grid)
    yield "points", f"{math.prod(grid.shape):,} ({' x '.join(map(str, grid.shape))})"
    yield "examples per point", ", ".join(f"{len(split):,} {name}" for name, split in experiment.splits.items())
    statistics = {
        "keep": "running statistics of the checkpoint" if experiment.theta.statistics else "no running statistics",
        "move": "running statistics move along with the parameters",
        "recompute": "running statistics estimated at every point, "
        f"from {experiment.calibration_examples:,} training examples",
    }
    yield "batch norm", statistics[job.evaluate.batchnorm]


def _estimate(experiment: Experiment, plane: Plane, to_find: str, memory: Memory) -> Iterator[tuple[str, str]]:
    """Yield what a sweep would take of time and memory, as labels and texts; times one batch, and one product."""
    job, batch = experiment.job.values, choose_batch(Solo(), experiment)
    evaluator = _fastest_evaluator(experiment, plane, batch)
    held = f"the network's own forward pass, weights held by {memory.group} ranks together"
    yield "engine", evaluator.description if memory.group == 1 else held
    curvature_seconds = curvature_megabytes = 0.0
    if job.curvature or (to_find and job.curved):
        search = forecast(experiment, plane, batch)
        yield "hessian", search.text
        if to_find and isinstance(job.plane, HessianPlane):
            plane_takes = clock_time(USUAL * search.product)
            yield "plane takes", f"about {plane_takes}, before the first point; all ranks share it"
        curvature_seconds, curvature_megabytes = search.seconds, search.megabytes
    points, planes = math.prod(job.chosen_grid.shape), repeats(job)
    examples = {name: len(split) for name, split in experiment.splits.items()}
    least = sum(examples.values()) * points
    if job.sampling is not None:
        text, least = _first_level(job, examples)
        yield "sampling", text
    split = job.data.splits[0]
    some = slice(0, min(batch, evaluator.count(split)))
    activations = measured(
        partial(evaluator.per_example, evaluator.centre, split, some), experiment.device
    )  # the first batch warms up
    started = time.perf_counter()
    evaluator.per_example(evaluator.centre, split, some)
    seconds = (time.perf_counter() - started) / some.stop
    if to_find and isinstance(job.plane, WorstPlane):
        count = min(job.plane.examples or evaluator.count(split), evaluator.count(split))
        search_time = clock_time(PASSES * job.plane.steps * count * seconds)
        gradient = gradient_of(experiment, job.plane)
        here = replace(memory.room, words=f"this {memory.room.unit}")
        gradient.check(weights_of(experiment).resident, memory.sharing, here)
        takes = f"{_bytes(gradient.each)} per rank for a gradient and {_bytes(gradient.once)} on rank 0 for its sum"
        yield "plane takes", f"about {search_time}, before the first point; all ranks share it; {takes}"
    if to_find and isinstance(job.plane, CurvePlane):
        takes = clock_time(PASSES * job.plane.steps * min(job.plane.batch, evaluator.count(split)) * seconds)
        yield "plane takes", f"about {takes}, before the first point, on rank 0: {job.plane.steps:,} steps"
    again = experiment.calibration_examples  # at every point, for running statistics
    each = seconds * (sum(examples.values()) + again) + curvature_seconds
    total = clock_time(each * points * planes)
    if job.sampling is None:
        yield "time", f"about {each:.3g} s per point, {total} on one rank like this one"
    else:
        shortest = clock_time(seconds * (least + again * points) * planes)
        yield "time", f"{shortest} at the least, {total} at the most, on one rank like this one"
    more = {"activations": activations, "products of the Hessian": int(1e6 * curvature_megabytes)}
    yield from _memory(experiment, plane, evaluator, more, memory)
    size, kept = file_size(experiment, plane)
    where = "with the directions" if kept else "without the directions, which are drawn again from what it records"
    yield "file", f"about {_bytes(size)}, {where}"


def _memory(
    experiment: Experiment, plane: Plane, evaluator: Evaluator, more: Mapping[str, int], memory: Memory
) -> Iterator[tuple[str, str]]:
    """Yield what a rank, the node and the device take, and how the weights of a large network are held."""
    streamed, free, group = False, memory.room.free, memory.group
    if not isinstance(network := experiment.theta.network, nn.Module):
        weights, streamed = weights_of(experiment), is_streamed(experiment, memory.sharing, free, group)
        if isinstance(network, Streaming):  # the memory measured for a batch includes the layers
            more = {**more, "activations": max(more["activations"] - weights.streamed, 0)}
        how = f"streamed, the largest layer twice: {_bytes(weights.streamed)} per rank" if streamed else "resident"
        if group > 1:
            how = f"held by {group} ranks together: {_bytes(weights.of_group(group))} per rank"
        later = ""
        if how == "resident" and free is not None and experiment.job.values.evaluate.weights == "auto":
            later = f"; streamed from {int(SHARE * free // weights.resident) + 1} ranks per {memory.room.unit} on"
        yield "weights", f"{how}{later}"
    on_device = memory.room.unit == "device" and free is not None
    needs = needs_of(
        experiment,
        plane,
        evaluator,
        more,
        streamed=streamed,
        group=group,
        room=free // 2 if on_device and free else None,
    )
    parts, once, there = (
        ", ".join(f"{name} {_bytes(size)}" for name, size in found.items())
        for found in (needs.rank, needs.node, needs.device)
    )
    each, of_node = sum(needs.rank.values()) / 1e6, sum(needs.node.values()) / 1e6
    yield "memory", f"about {each:,.0f} MB per rank ({parts}), {of_node:,.0f} MB once per node ({once})"
    if needs.device:
        yield "on its device", f"about {sum(needs.device.values()) / 1e6:,.0f} MB per rank ({there})"
    if memory.node.free is not None:
        total, has = needs.total(memory.ranks), memory.node.free
        yield "this node", f"{_ranks_take(memory.ranks)} about {_bytes(total)} of {_bytes(has)} that are free"
    if needs.device and free is not None:
        total = memory.sharing * sum(needs.device.values())
        yield "this device", f"{_ranks_take(memory.sharing)} about {_bytes(total)} of {_bytes(free)} that are free"


def _ranks_take(ranks: int) -> str:
    return f"{ranks} rank{'s take' if ranks > 1 else ' takes'}"


def _bytes(size: float) -> str:
    """Return a number of bytes in words.

    >>> _bytes(27_573), _bytes(3_205_000), _bytes(13_477_000_000)
    ('28 KB', '3.2 MB', '13.5 GB')
    """
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if size >= pair[0]), (1e3, "KB"))
    digits = 0 if unit == 1e3 or size >= 100 * unit else 1
    return f"{size / unit:,.{digits}f} {name}"


def _first_level(job: SweepJob, examples: Mapping[str, int]) -> tuple[str, int]:
    """Say what a sampled sweep begins with, and return how many examples it evaluates at the least, with the audit."""
    sampling, points = job.sampling, math.prod(job.chosen_grid.shape)
    if sampling is None:
        raise RuntimeError("no sampling in the job")
    firsts = {name: prefixes(sampling.error, count, sampling.of)[0] for name, count in examples.items()}
    begins = ", ".join(f"{firsts[name]:,} of {count:,} {name}" for name, count in examples.items())
    pilots = 0 if sampling.of == "loss" else len(pilot_points(job.chosen_grid.coordinates()))
    audited = min(sampling.audit + pilots, points)
    least = sum(points * firsts[name] + audited * (count - firsts[name]) for name, count in examples.items())
    before = f"{pilots} points on all before; " if pilots else ""
    what = f"bars of {sampling.error:.3g}{' of the rise above f(0, 0)' if sampling.of == 'rise' else ''}"
    return f"{what}: {before}at first {begins} examples per point; {sampling.audit} points on all", least


def _fastest_evaluator(experiment: Experiment, plane: Plane, batch: int) -> Evaluator:
    """Return the fastest engine that can be built; `sweep` checks whether it agrees with the plain network."""
    task, network = experiment.task, experiment.theta.network
    if not isinstance(network, nn.Module):
        return EagerEvaluator(network, plane, task, batch)
    for name in candidates(experiment.job.values.evaluate.engine, task, plane):
        if not kernel_is_missing(name):
            with suppress(CannotFuseError):
                return build_engine(name, network, plane, task, batch)
    return EagerEvaluator(network, plane, task, batch)
