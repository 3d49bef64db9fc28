"""Loads the network, the data and the loss of a job on every rank, and checks that all ranks hold the same."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from landscape_mpi.assemble import build_model, normalisation, open_split, use_device
from landscape_mpi.data import Split
from landscape_mpi.data.split import count, describe, each, to
from landscape_mpi.errors import Flag, Key, UserError
from landscape_mpi.evaluate import (
    Loss,
    Names,
    Network,
    Task,
    build_loss,
    choose_layout,
    examples_that_fit,
    first_batch,
    is_classes,
    lay_out,
    mode_note,
    prepared,
)
from landscape_mpi.evaluate.evaluator import CALIBRATION_EXAMPLES
from landscape_mpi.evaluate.first_batch import FIRST
from landscape_mpi.evaluate.live import Live, apart
from landscape_mpi.evaluate.losses import ours
from landscape_mpi.job import CurvePlane, InterpolatedPlane, JobFile, SweepJob
from landscape_mpi.log import note, noter
from landscape_mpi.metrics import own
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.registry import asked
from landscape_mpi.mpi.launcher import choose_device
from landscape_mpi.mpi.shutdown import NEVER, Stop
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks import load_checkpoint, sha256
from landscape_mpi.networks.state import duplicate
from landscape_mpi.plane import Parameters, Plane
from landscape_mpi.surface.identity import WHY, centre_text, other_network
from landscape_mpi.sweeping.large import Opened, large_theta, open_large
from landscape_mpi.sweeping.memory import are_streamed
from landscape_mpi.sweeping.once import share_splits
from landscape_mpi.sweeping.precision import PRECISIONS, Precision
from landscape_mpi.sweeping.theta import Losses, Theta, eval_copy, first_losses, in_own_dtype, load_end, theta_of

Open = Callable[[str], Split]
"""The name of a split -> the split."""


class Source(Protocol):
    """What a sweep is made of; each method is called on every rank, or on one rank per node."""

    def network(self) -> tuple[nn.Module, str]:
        """Return the network at theta* and its fingerprint; it is on the CPU, not yet in eval mode, the sweep's own."""

    def large(self, job: SweepJob, world: World, group: int | None = None) -> Opened | None:
        """Return the network without memory and its checkpoint mapped, if copies would take much memory; collective.

        `group`: how many ranks hold it together, where that is asked for; then it counts as large.
        """

    def end(self, theta: Theta, key: str, name: str) -> nn.Module:
        """Return the network that `plane.to` or `plane.via` names, on the CPU, not yet put into eval mode."""

    def end_state(self, theta: Theta, key: str, name: str) -> Parameters:
        """Return parameters and buffers of that network, on the CPU; those of a large network are views of its file."""

    def split(self, name: str) -> Split:
        """Return a split of the data, in memory of the CPU."""

    def loss(self) -> Loss:
        """Return the loss."""

    def metrics(self, job: JobFile[SweepJob]) -> tuple[Metric, ...]:
        """Return the user's own metrics among those that a job names, without results yet."""

    def plane(self, theta: Theta, job: SweepJob) -> Plane | None:
        """Return the plane where its directions are given; None where the job says how to find them."""


@dataclass(frozen=True)
class JobSource:
    """The files and modules that a job names; `note` gets what a user should know of how weights were found.

    Raises:
        UserError: something is missing or does not fit.
    """

    job: JobFile[SweepJob]
    note: Callable[[str], None] = lambda _: None

    def network(self) -> tuple[nn.Module, str]:
        """Build the network and load its checkpoint."""
        model = self.job.values.model
        checkpoint, dtype = self.job.resolve(model.checkpoint), PRECISIONS[self.job.values.evaluate.dtype].dtype
        network = build_model(self.job)
        for text in load_checkpoint(network, checkpoint, entry=model.entry, dtype=dtype):
            self.note(text)
        return network, sha256(checkpoint)

    def large(self, job: SweepJob, world: World, group: int | None = None) -> Opened | None:
        """Return the network without memory and its checkpoint mapped, if copies would take much memory; collective."""
        model = job.model
        return open_large(self.job.resolve(model.checkpoint), partial(build_model, self.job), job, world, group)

    def end(self, theta: Theta, key: str, name: str) -> nn.Module:
        """Load a checkpoint into a copy of the network."""
        network = duplicate(theta.origin)
        load_checkpoint(network, self.job.resolve(name), key, self.job.values.model.entry)
        return network

    def end_state(self, theta: Theta, key: str, name: str) -> Parameters:
        """Return the tensors of a checkpoint."""
        return load_end(theta, self.job.resolve(name), key, self.job.values.model.entry)

    def split(self, name: str) -> Split:
        """Return a split of the job's data."""
        return open_split(self.job, name)

    def loss(self) -> Loss:
        """Return the loss, which may be the user's own."""
        return build_loss(self.job.values.loss, self.job.path.parent, self.job.values.loss_options)

    def metrics(self, job: JobFile[SweepJob]) -> tuple[Metric, ...]:
        """Import the callables that the job names."""
        return own.load(job.values.metrics, job.path.parent)

    def plane(self, theta: Theta, job: SweepJob) -> Plane | None:  # noqa: ARG002 - a job's planes are all to be found
        """Return None: the job says where its directions come from."""
        return None


@dataclass(frozen=True)
class Experiment:
    """Network, data and fingerprints of a job, on this rank's device.

    `centre`: the losses of the first examples at theta*, by the callable's own network. `team`: the ranks, this one
    among them, that hold the network together and evaluate each point together; None where each rank does so alone.
    """

    job: JobFile[SweepJob]
    device: torch.device
    theta: Theta
    splits: Mapping[str, Split]
    task: Task
    data_sha256: str
    stop: Stop
    source: Source
    centre: Losses
    team: World | None = None

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprints of what all planes of the job share, by the names of a surface's attributes."""
        sha256 = {"checkpoint_sha256": self.theta.checkpoint_sha256, "data_sha256": self.data_sha256}
        return {**sha256, **own.record(self.task.metrics)}

    @property
    def precision(self) -> Precision:
        """What `evaluate.dtype` stands for."""
        return PRECISIONS[self.job.values.evaluate.dtype]

    @property
    def calibration_examples(self) -> int:
        """From how many examples running statistics are estimated anew at every point; 0 where they are not."""
        return 0 if self.task.calibration is None else count(self.task.calibration)


def load_experiment(
    job: JobFile[SweepJob],
    source: Source,
    device: str,
    world: World,
    stop: Stop = NEVER,
    team: World | None = None,
    group: int | None = None,
) -> Experiment:
    """Load network and data on every rank; collective. Evaluations are dropped where there is a reason to stop.

    `team`: the ranks that hold the network together, where that is asked for. `group`: how many ranks would hold it
    together, where only this rank is here: it streams the weights.

    Raises:
        UserError: something is missing or does not fit, or differs between ranks.
    """
    values = job.values
    tf32 = PRECISIONS[values.evaluate.dtype].tf32
    name = together(world, choose_device, device, world.local_rank, torch.cuda.device_count())
    chosen = together(world, use_device, name, tf32)
    group = team.size if team else group
    opened = source.large(values, world, group)
    team = team if team is not None and team.size > 1 else None
    if opened is None:
        network, fingerprint = together(world, source.network)
        plain: nn.Module | Live = together(world, eval_copy, network, values.model.build)
        theta = together(world, theta_of, network, fingerprint, values.evaluate, chosen)
    else:
        streamed = are_streamed(opened.network, values, world, chosen, group or 1) or (group or 1) > 1
        theta = together(world, large_theta, opened, values, chosen, team, streamed=streamed)
        plain = theta.network
    theta = replace(theta, note=noter(world))
    loss = together(world, source.loss)
    splits = load_data(values, source.split, loss, world)
    between = isinstance(values.plane, InterpolatedPlane | CurvePlane)
    if between and values.evaluate.batchnorm == "keep" and theta.statistics:
        other = "move takes its own" if isinstance(values.plane, InterpolatedPlane) else "recompute estimates its own"
        note(
            world,
            (
                Key("evaluate.batchnorm"),
                " is keep: plane.to gets the running statistics of ",
                Key("model.checkpoint"),
                f"; {other}.",
            ),
        )
    for text in (text for split in splits.values() for text in split.notes):
        note(world, text)
    calibration = load_calibration(values, source.split, world, splits)
    task = together(world, build_task, values, loss, splits, calibration, chosen, stop)
    task = in_its_mode(world, task, theta.network, values, team)
    task = with_own_metrics(world, task, theta.network, together(world, source.metrics, job), team)
    short = replace(task, pause=lambda: None)  # a sweep that is told to stop still reports what it finds here
    task = replace(task, layout=_layout(world, theta.network, short))
    used = splits if calibration is None else {**splits, "calibration": calibration}
    data = agreed(world, "data", on_ranks(world, world.local_rank == 0, data_sha256, used))
    own_network: Network = plain
    own_task = short
    if isinstance(plain, nn.Module):
        own_network, own_task = together(world, in_own_dtype, plain, short)
    centre = together(world, first_losses, own_network, own_task, values.evaluate.batch)
    _same_network(world, centre_text(centre), values.evaluate.dtype)
    return Experiment(job, chosen, theta, splits, task, data, stop, source, centre, team)


def _same_network(world: World, mine: str, dtype: str) -> None:
    """Check that all ranks have the same network; collective.

    Raises:
        UserError: on every rank, where one has another network than rank 0.
    """
    found = world.allgather(mine)
    for rank, text in enumerate(found):
        if reason := other_network(found[0], text, dtype, ("on rank 0", f"on rank {rank}")):
            raise UserError("", (reason, ", by the same checkpoint"), expected="one network", remedy=WHY)


def _layout(world: World, network: nn.Module | Live, task: Task) -> torch.memory_format:
    """Return how weights lie in memory, channels last where all ranks find that safe, and lay them out; collective."""
    if not isinstance(network, nn.Module):  # a comparison takes copies
        return torch.contiguous_format
    layout = together(world, choose_layout, network, task)
    if all(world.allgather(layout == torch.channels_last)):
        # as at every point: another layout rounds differently, and deep networks without shortcuts amplify that
        lay_out(network, torch.channels_last)
        return torch.channels_last
    note(
        world,
        "the network is evaluated with contiguous weights; laid out channels last it computes something else.",
    )
    return torch.contiguous_format


def in_its_mode(world: World, task: Task, network: nn.Module | Live, job: SweepJob, team: World | None = None) -> Task:
    """Return the task with the mode of torch that its first batch can be evaluated in, the same on all ranks.

    The ranks of a `team`, which hold the network together, all evaluate it, as in what follows.

    Raises:
        UserError: on every rank, where the network or the loss raises, or the targets do not fit.
    """
    batch = FIRST if job.evaluate.batch == "auto" else job.evaluate.batch
    known = on_ranks(world, world.rank == 0 or bool(team), first_batch, task, network, batch, "accuracy" in job.metrics)
    gradients, output_bytes = world.bcast((known.gradients, known.output_bytes) if known else ("", 0.0))
    task = replace(task, gradients=gradients, output_bytes=output_bytes)
    if text := mode_note(task):
        note(world, f"{text}")
    return task


def with_own_metrics(
    world: World, task: Task, network: nn.Module | Live, loaded: Sequence[Metric], team: World | None = None
) -> Task:
    """Return the task with the user's own metrics, whose results a first batch names; the same on all ranks.

    Raises:
        UserError: on every rank, where a callable raises or returns something else than numbers.
    """
    if not loaded:
        return task
    if team is not None and (calling := [one.key for one in loaded if one.needs == "network"]):
        raise UserError(
            "metrics",
            (f"{calling[0]} calls the network, which the ranks of ", Flag("group"), " can only do together"),
            remedy=("sweep without ", Flag("group")),
        )

    def first_names() -> dict[str, list[str]]:
        split = next(iter(task.splits))
        copy = apart(network)
        few = examples_that_fit(task, min(FIRST, len(task.splits[split])))
        with task.mode():
            outputs, targets = task.outputs_of(copy, split, slice(0, few))
            several = (replace(task, metrics=(one,)) for one in loaded)
            found = [one.others(outputs, targets, copy, split, slice(0, few)) for one in several]
            return {one.key: list(names) for one, names in zip(loaded, found, strict=True)}

    names = world.bcast(on_ranks(world, world.rank == 0 or bool(team), first_names))
    metrics = together(world, own.named, loaded, names or {})
    return replace(task, metrics=(*task.metrics, *metrics))


def agreed(world: World, what: str, fingerprint: str | None) -> str:
    """Return the fingerprint that all ranks have; a rank other than 0 may give None. Collective.

    Raises:
        UserError: on every rank, where one has another fingerprint than rank 0.
    """
    found = world.allgather(fingerprint)
    for rank, one in enumerate(found):
        if one is not None and one != found[0]:
            raise UserError(
                what,
                f"rank {rank} holds another {what} than rank 0 (fingerprints {one[:12]} and {str(found[0])[:12]})",
                expected="the same files, or the same arguments, everywhere",
            )
    return str(found[0])


def load_data(job: SweepJob, open_split: Open, loss: Loss, world: World) -> dict[str, Split]:
    """Load the splits once per node, as the loss takes them, and share them among its ranks; collective.

    Raises:
        UserError: the data are absent, damaged or without the classes that accuracy needs.
    """
    names = job.data.splits if world.local_rank == 0 else ()

    def opened() -> list[Split]:
        return [prepared(open_split(name), loss) for name in names]

    splits = {split.name: split for split in share_splits(together(world, opened), world)}
    needed = "accuracy" in job.metrics and ours(loss) != "next_token"
    wrong = [split for split in splits.values() if needed and not is_classes(split.targets)]
    if wrong:
        name, targets = wrong[0].name, wrong[0].targets
        column = isinstance(targets, Tensor) and targets.dim() == 2 and targets.shape[1] == 1
        remedy = (", or return targets[:, 0] from ", Key("data.build")) if column else ""
        raise UserError(
            "metrics",
            f"accuracy needs class targets, whole numbers [n]; the {name} split has {describe(targets)}",
            remedy=("write ", Key("metrics", ("loss",)), remedy),
        )
    return splits


def load_calibration(job: SweepJob, open_split: Open, world: World, splits: Mapping[str, Split]) -> Split | None:
    """Return the training examples from which running statistics are estimated anew at every point; collective.

    Args:
        job: The job.
        open_split: Opens a split by its name.
        world: The ranks.
        splits: What is evaluated; the training examples are loaded if they are not among these splits.

    Returns:
        The first 1,000 of the training split; None where the statistics are not estimated anew.

    Raises:
        UserError: the training examples are absent, or there is only one.
    """
    if job.evaluate.batchnorm != "recompute":
        return None
    if "train" in splits:
        split = _first(splits["train"])
    else:
        made = on_ranks(world, world.local_rank == 0, open_split, "train")
        (split,) = share_splits([] if made is None else [_first(made)], world)
    if len(split) < 2:
        raise UserError(
            "evaluate.batchnorm", "found recompute, and there is one training example", expected="at least two"
        )
    return split


def _first(split: Split) -> Split:
    inputs, targets = (
        each(rows, lambda tensor: tensor[:CALIBRATION_EXAMPLES]) for rows in (split.inputs, split.targets)
    )
    return replace(split, inputs=inputs, targets=targets)


def data_sha256(splits: Mapping[str, Split]) -> str:
    """Return one fingerprint of all splits."""
    text = "".join(f"{name} {split.fingerprint()}\n" for name, split in splits.items())
    return hashlib.sha256(text.encode()).hexdigest()


def build_task(
    job: SweepJob,
    loss: Loss,
    splits: Mapping[str, Split],
    calibration: Split | None,
    device: torch.device,
    stop: Stop,
) -> Task:
    """Return what is evaluated at every point, with the data resident on the device; `stop` can end an evaluation."""
    resident = {
        name: replace(split, inputs=to(split.inputs, device), targets=to(split.targets, device))
        for name, split in splits.items()
    }
    precision = PRECISIONS[job.evaluate.dtype]
    examples = None if calibration is None else to(calibration.inputs, device)
    scaled = normalisation(job.data)
    names = Names(job.model.build, job.loss)
    return Task(
        resident,
        scaled,
        loss,
        precision.dtype,
        device,
        precision.autocast,
        stop.check,
        examples,
        names,
        metrics=asked(job.metrics),
        words=precision.words,
    )
