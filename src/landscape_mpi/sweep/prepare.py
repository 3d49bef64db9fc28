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
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Task, build_loss, is_classes
from landscape_mpi.job import JobFile, SweepJob
from landscape_mpi.networks import load_checkpoint, sha256
from landscape_mpi.ranks import World, together
from landscape_mpi.stop import Stop
from landscape_mpi.sweep.precision import PRECISIONS
from landscape_mpi.sweep.share import share_splits


@dataclass(frozen=True)
class Theta:
    """The trained network on its device and in the job's dtype, its parameters as stored, and where they came from."""

    network: nn.Module
    parameters: dict[str, Tensor]
    checkpoint_sha256: str


def load_theta(job: JobFile[SweepJob], device: torch.device) -> Theta:
    """Build the network and load its checkpoint.

    Raises:
        UserError: the network cannot be built, or the checkpoint does not fit it.
    """
    checkpoint = job.resolve(job.values.model.checkpoint)
    network = build_model(job)
    load_checkpoint(network, checkpoint)
    parameters = _parameters(network)
    dtype = PRECISIONS[job.values.evaluate.dtype].dtype
    return Theta(network.to(device, dtype), parameters, sha256(checkpoint))


def load_end(theta: Theta, path: Path, key: str) -> dict[str, Tensor]:
    """Return the parameters of another checkpoint of the same network, on the CPU.

    Raises:
        UserError: the checkpoint does not fit the network, or holds theta itself; `key` is the job's key that names it.
    """
    network = copy.deepcopy(theta.network).cpu()
    load_checkpoint(network, path, key)
    end = _parameters(network)
    if all(torch.equal(end[name], tensor.to(end[name].dtype)) for name, tensor in theta.parameters.items()):
        raise UserError(f"{key}: {path} holds the parameters of model.checkpoint; expected those of another network.")
    return end


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


def data_sha256(splits: Mapping[str, Split]) -> str:
    """Return one fingerprint of all splits."""
    text = "".join(f"{name} {split.fingerprint()}\n" for name, split in splits.items())
    return hashlib.sha256(text.encode()).hexdigest()


def build_task(job: JobFile[SweepJob], splits: Mapping[str, Split], device: torch.device, stop: Stop) -> Task:
    """Return what is evaluated at every point, with the data resident on the device; dropped where there is to stop.

    Raises:
        UserError: the loss cannot be found.
    """
    resident = {
        name: replace(split, inputs=split.inputs.to(device), targets=split.targets.to(device))
        for name, split in splits.items()
    }
    loss = build_loss(job.values.loss, job.path.parent)
    precision = PRECISIONS[job.values.evaluate.dtype]
    scaled = normalisation(job.values.data)
    return Task(resident, scaled, loss, precision.dtype, device, precision.autocast, stop.check)


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.named_parameters()}


def _check_classes(splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        if not is_classes(split.targets):
            raise UserError(
                f"metrics: accuracy needs class targets, whole numbers [n]; the {name} split has {split.targets.dtype} "
                f"{list(split.targets.shape)}; write metrics: [loss]."
            )
