"""A job -> the network and the data it speaks of, on this rank's device; writes nothing."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.assemble import build_model, normalisation, open_split
from landscape_mpi.data import Split
from landscape_mpi.data.rows import describe, each, to
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Task, build_loss, is_classes, statistics_of
from landscape_mpi.evaluate.batchnorm import IMAGES
from landscape_mpi.job import JobFile, SweepJob
from landscape_mpi.networks import load_checkpoint, sha256
from landscape_mpi.ranks import World, together
from landscape_mpi.stop import Stop
from landscape_mpi.sweeping.precision import PRECISIONS
from landscape_mpi.sweeping.share import share_splits


@dataclass(frozen=True)
class Theta:
    """The trained network on its device and in the job's dtype, and where it came from.

    `parameters` and `statistics`, the running ones of batch norm, are as stored, on the CPU.
    """

    network: nn.Module
    parameters: dict[str, Tensor]
    statistics: dict[str, Tensor]
    checkpoint_sha256: str


def load_theta(job: JobFile[SweepJob], device: torch.device) -> Theta:
    """Build the network and load its checkpoint.

    Raises:
        UserError: the network cannot be built, has no batch norm to treat as asked, or the checkpoint does not fit it.
    """
    checkpoint = job.resolve(job.values.model.checkpoint)
    network = build_model(job)
    load_checkpoint(network, checkpoint)
    parameters, statistics = _parameters(network), statistics_of(network)
    evaluate = job.values.evaluate
    if evaluate.batchnorm != "keep" and not statistics:
        raise UserError(
            f"evaluate.batchnorm: found {evaluate.batchnorm}, and the network has no batch norm with running "
            "statistics; leave the key out."
        )
    # as at every point: another layout rounds differently, which deep networks without shortcuts make much of
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = PRECISIONS[evaluate.dtype].dtype
    return Theta(network.to(device, dtype), parameters, statistics, sha256(checkpoint))


def load_end(theta: Theta, path: Path, key: str) -> dict[str, Tensor]:
    """Return parameters and running statistics of another checkpoint of the same network, on the CPU.

    Raises:
        UserError: the checkpoint does not fit the network; `key` is the job's key that names it.
    """
    network = copy.deepcopy(theta.network).cpu()
    load_checkpoint(network, path, key)
    return {**_parameters(network), **statistics_of(network)}


def load_data(job: JobFile[SweepJob], world: World) -> dict[str, Split]:
    """Load the splits once a node and share them among its ranks; collective.

    Raises:
        UserError: the data are absent, damaged or without the classes that accuracy needs.
    """
    data = job.values.data
    made = together(world, lambda: [open_split(job, name) for name in data.splits] if world.local_rank == 0 else [])
    splits = {split.name: split for split in share_splits(made, world)}
    if "accuracy" in job.values.metrics:
        _check_classes(splits)
    return splits


def load_calibration(job: JobFile[SweepJob], world: World, splits: Mapping[str, Split]) -> Split | None:
    """Return the training images from which running statistics are estimated anew at every point; collective.

    Args:
        job: The job.
        world: The ranks.
        splits: What is evaluated; the training images are loaded where they are not among it.

    Returns:
        The first 1,000 of the training split; None where the statistics are not estimated anew.

    Raises:
        UserError: the training images are absent, or there is but one.
    """
    if job.values.evaluate.batchnorm != "recompute":
        return None
    if "train" in splits:
        split = _first(splits["train"])
    else:
        made = together(world, lambda: [_first(open_split(job, "train"))] if world.local_rank == 0 else [])
        (split,) = share_splits(made, world)
    if len(split) < 2:
        raise UserError("evaluate.batchnorm: found recompute, and there is one training image; expected at least two.")
    return split


def _first(split: Split) -> Split:
    inputs, targets = (each(rows, lambda tensor: tensor[:IMAGES]) for rows in (split.inputs, split.targets))
    return replace(split, inputs=inputs, targets=targets)


def data_sha256(splits: Mapping[str, Split]) -> str:
    """Return one fingerprint of all splits."""
    text = "".join(f"{name} {split.fingerprint()}\n" for name, split in splits.items())
    return hashlib.sha256(text.encode()).hexdigest()


def build_task(
    job: JobFile[SweepJob],
    splits: Mapping[str, Split],
    calibration: Split | None,
    device: torch.device,
    stop: Stop,
) -> Task:
    """Return what is evaluated at every point, with the data resident on the device; dropped where there is to stop.

    Raises:
        UserError: the loss cannot be found.
    """
    resident = {
        name: replace(split, inputs=to(split.inputs, device), targets=to(split.targets, device))
        for name, split in splits.items()
    }
    loss = build_loss(job.values.loss, job.path.parent)
    precision = PRECISIONS[job.values.evaluate.dtype]
    scaled = normalisation(job.values.data)
    images = None if calibration is None else to(calibration.inputs, device)
    return Task(resident, scaled, loss, precision.dtype, device, precision.autocast, stop.check, images)


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def _check_classes(splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        if not is_classes(split.targets):
            raise UserError(
                f"metrics: accuracy needs class targets, whole numbers [n]; the {name} split has "
                f"{describe(split.targets)}; write metrics: [loss]."
            )
