"""What every plane of a job shares, loaded on every rank and seen to be the same on all; writes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from landscape_mpi.assemble import use_device
from landscape_mpi.data import Split
from landscape_mpi.data.split import count
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Batch, Task, choose_layout, first_batch, lay_out, mode_note
from landscape_mpi.evaluate.gradients import FIRST
from landscape_mpi.job import InterpolatedPlane, JobFile, SweepJob
from landscape_mpi.log import log, noter
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.node import choose_device
from landscape_mpi.mpi.shutdown import NEVER, Stop
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks.copies import cast, duplicate, own_dtype
from landscape_mpi.plugin import own_code
from landscape_mpi.surface.centre import WHY, centre_text, other_network
from landscape_mpi.sweeping import load
from landscape_mpi.sweeping.precision import PRECISIONS, Precision
from landscape_mpi.sweeping.sources import Source

FIRST_EXAMPLES = 32
"""Examples of each split by whose losses networks are compared."""
Losses = Mapping[str, NDArray[np.float64]]
"""The losses of the first examples of each split, by its name."""


@dataclass(frozen=True)
class Experiment:
    """Network, data and fingerprints of a job, on this rank's device.

    `centre`: what the callable's own network gives of the first examples at theta*.
    """

    job: JobFile[SweepJob]
    device: torch.device
    theta: load.Theta
    splits: Mapping[str, Split]
    task: Task
    data_sha256: str
    stop: Stop
    source: Source
    centre: Losses

    @property
    def precision(self) -> Precision:
        """What `evaluate.dtype` stands for."""
        return PRECISIONS[self.job.values.evaluate.dtype]

    @property
    def anew(self) -> int:
        """From how many images running statistics are estimated anew at every point; 0 where they are not."""
        return 0 if self.task.calibration is None else count(self.task.calibration)


def load_experiment(
    job: JobFile[SweepJob], source: Source, device: str, world: World, stop: Stop = NEVER
) -> Experiment:
    """Load network and data on every rank; collective. Evaluations are dropped where there is a reason to stop.

    Raises:
        UserError: something is missing or does not fit, or differs between ranks.
    """
    values = job.values
    tf32 = PRECISIONS[values.evaluate.dtype].tf32
    chosen = together(world, _device, device, world, tf32)
    network, fingerprint = together(world, source.network)
    plain = together(world, _in_eval_mode, network, values.model.build)
    theta = together(world, load.theta_of, network, fingerprint, values.evaluate, chosen)
    theta = replace(theta, note=noter(world))
    loss = together(world, source.loss)
    splits = load.load_data(values, source.split, loss, world)
    if isinstance(values.plane, InterpolatedPlane) and values.evaluate.batchnorm == "keep" and theta.statistics:
        log(
            world,
            "note: evaluate.batchnorm is keep: plane.to gets the running statistics of model.checkpoint; move takes "
            "its own.",
        )
    for note in (note for split in splits.values() for note in split.notes):
        log(world, f"note: {note}")
    calibration = load.load_calibration(values, source.split, world, splits)
    task = together(world, load.build_task, values, loss, splits, calibration, chosen, stop)
    task = in_its_mode(world, task, theta.network, values)
    short = replace(task, pause=lambda: None)  # a sweep that is told to stop first says what it finds
    task = replace(task, layout=_layout(world, theta, short))
    # as at every point: another layout rounds differently, which deep networks without shortcuts make much of
    lay_out(theta.network, task.layout)
    used = splits if calibration is None else {**splits, "calibration": calibration}
    data = agreed(world, "data", on_ranks(world, world.local_rank == 0, load.data_sha256, used))
    own_network, own_task = together(world, in_own_dtype, plain, short)
    centre = together(world, first_losses, own_network, own_task, values.evaluate.batch)
    _same_network(world, centre_text(centre), values.evaluate.dtype)
    return Experiment(job, chosen, theta, splits, task, data, stop, source, centre)


def _in_eval_mode(network: nn.Module, build: str) -> nn.Module:
    plain = load.plain_arrays(network)
    with own_code("model.build", f"eval() of {build}"):
        return duplicate(plain).eval()


def _same_network(world: World, mine: str, dtype: str) -> None:
    """See that all ranks have one network; collective.

    Raises:
        UserError: on every rank, where one has another network than rank 0.
    """
    found = world.allgather(mine)
    for rank, text in enumerate(found):
        if reason := other_network(found[0], text, dtype, ("on rank 0", f"on rank {rank}")):
            raise UserError(f"{reason}, by the same checkpoint; expected one network: {WHY}.")


def _layout(world: World, theta: load.Theta, task: Task) -> torch.memory_format:
    """Return how weights lie in memory, channels last where all ranks find that safe; collective."""
    layout = together(world, choose_layout, theta.network, task)
    if all(world.allgather(layout == torch.channels_last)):
        return torch.channels_last
    log(
        world,
        "note: the network is evaluated with contiguous weights; laid out channels last it computes something else.",
    )
    return torch.contiguous_format


def in_its_mode(world: World, task: Task, network: nn.Module, job: SweepJob) -> Task:
    """Return the task with the mode of torch that its first batch can be evaluated in, the same on all ranks.

    Raises:
        UserError: on every rank, where the network or the loss raises, or the targets do not fit.
    """
    batch = FIRST if job.evaluate.batch == "auto" else job.evaluate.batch
    known = on_ranks(world, world.rank == 0, first_batch, task, network, batch, "accuracy" in job.metrics)
    task = replace(task, gradients=world.bcast(known.gradients if known else ""))
    if text := mode_note(task):
        log(world, f"note: {text}")
    return task


def _device(requested: str, world: World, tf32: bool) -> torch.device:
    return use_device(choose_device(requested, world.local_rank, torch.cuda.device_count()), tf32)


def in_own_dtype(network: nn.Module, task: Task) -> tuple[nn.Module, Task]:
    """Return a network on the task's device in its own dtype, or in float32 where that is less, and the task in it.

    A copy where something has to be changed, else the network itself.
    """
    low = any(p.is_floating_point() and torch.finfo(p.dtype).bits < 32 for p in network.parameters())
    dtype = torch.float32 if low else own_dtype(network)
    if low:
        network = cast(duplicate(network), task.device, dtype)
    elif task.device.type != "cpu":
        network = duplicate(network).to(task.device)
    return network, replace(task, dtype=dtype)


def first_losses(network: nn.Module, task: Task, batch: int | Literal["auto"]) -> Losses:
    """Return the losses of the first examples of each split by a network in eval mode, at most `batch` at a time."""
    held = Batch(FIRST_EXAMPLES if batch == "auto" else min(batch, FIRST_EXAMPLES))
    losses = {}
    for split in task.splits:

        def evaluate(images: int, split: str = split) -> PerExample:
            return task.evaluate(network, split, slice(0, FIRST_EXAMPLES), images)

        losses[split] = held.attempt(evaluate).losses
    return losses


def agreed(world: World, what: str, fingerprint: str | None) -> str:
    """Return the fingerprint that all ranks have; a rank other than 0 may pass with None. Collective.

    Raises:
        UserError: on every rank, where one has another fingerprint than rank 0.
    """
    found = world.allgather(fingerprint)
    for rank, one in enumerate(found):
        if one is not None and one != found[0]:
            raise UserError(
                f"{what}: rank {rank} holds another {what} than rank 0 "
                f"(fingerprints {one[:12]} and {str(found[0])[:12]}); expected the same files, or the same arguments, "
                "everywhere."
            )
    return str(found[0])
