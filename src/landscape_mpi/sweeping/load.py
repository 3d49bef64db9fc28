"""A job and its source -> network and data, on this rank's device; knows no name of a file. Writes nothing."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.assemble import normalisation
from landscape_mpi.data import Split
from landscape_mpi.data.split import describe, each, to
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Loss, Names, Task, is_classes, prepared, statistics_of
from landscape_mpi.evaluate.batchnorm import IMAGES
from landscape_mpi.job import SweepJob
from landscape_mpi.job.schema import Evaluate
from landscape_mpi.metrics.registry import asked
from landscape_mpi.mpi.shutdown import Stop
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks import load_checkpoint
from landscape_mpi.networks.copies import cast, duplicate, own_dtype
from landscape_mpi.plane.plane import can_move
from landscape_mpi.plugin import own_code
from landscape_mpi.sweeping.broadcast import share_splits
from landscape_mpi.sweeping.precision import PRECISIONS

Open = Callable[[str], Split]
"""The name of a split -> the split."""


@dataclass(frozen=True)
class Theta:
    """The trained network on its device and in the job's dtype, and where it came from.

    Attributes:
        network: in eval mode, on the device, in the dtype.
        origin: the network as it was made and its checkpoint loaded, in train mode and its own dtype, on the CPU.
            Nothing changes it; `parameters` are its own tensors.
        parameters: real and complex ones; whole numbers are none that can move.
        statistics: the running ones of batch norm, as stored.
        buffers: what else its state dict holds, as stored.
        checkpoint_sha256: a fingerprint.
    """

    network: nn.Module
    origin: nn.Module
    parameters: dict[str, Tensor]
    statistics: dict[str, Tensor]
    buffers: dict[str, Tensor]
    checkpoint_sha256: str
    note: Callable[[str], None] = lambda _: None


def theta_of(network: nn.Module, fingerprint: str, evaluate: Evaluate, device: torch.device) -> Theta:
    """Return theta* of a network on the CPU, in the mode in which it was made; it is the origin from here on.

    What it computes from its weights in eval mode is made after they were loaded; its parameters are those of train
    mode, where a network keeps what can be trained apart.

    Raises:
        UserError: the network has no batch norm to treat as asked.
    """
    with own_code("model.build", "eval() of the network"):
        copied = duplicate(network).eval()
    with suppress(Exception):  # a network that refuses to be trained has its parameters in eval mode
        network.train()
    parameters, statistics = _parameters(network), statistics_of(network)
    if evaluate.batchnorm != "keep" and not statistics:
        raise UserError(
            f"evaluate.batchnorm: found {evaluate.batchnorm}, and the network has no batch norm with running "
            "statistics; leave the key out."
        )
    copied = cast(copied, device, PRECISIONS[evaluate.dtype].dtype)
    return Theta(copied, network, parameters, statistics, _buffers(network), fingerprint)


def load_end(theta: Theta, path: Path, key: str, entry: str | None = None) -> dict[str, Tensor]:
    """Return parameters and buffers of another checkpoint of the same network, on the CPU.

    `entry`: `model.entry`, which counts here where the file has it.

    Raises:
        UserError: the checkpoint does not fit the network; `key` is the job's key that names it.
    """

    def load(network: nn.Module) -> None:
        for text in load_checkpoint(network, path, key, entry, own_dtype(theta.network)):
            theta.note(text)

    return end_of(theta, load)


def end_of(theta: Theta, load: Callable[[nn.Module], None]) -> dict[str, Tensor]:
    """Return parameters and buffers that `load` puts into a copy of the network, on the CPU."""
    network = duplicate(theta.origin)
    load(network)
    return {**_parameters(network), **statistics_of(network), **_buffers(network)}


def load_data(job: SweepJob, open_split: Open, loss: Loss, world: World) -> dict[str, Split]:
    """Load the splits once a node, as the loss takes them, and share them among its ranks; collective.

    Raises:
        UserError: the data are absent, damaged or without the classes that accuracy needs.
    """
    names = job.data.splits if world.local_rank == 0 else ()

    def opened() -> list[Split]:
        return [prepared(open_split(name), loss) for name in names]

    splits = {split.name: split for split in share_splits(together(world, opened), world)}
    if "accuracy" in job.metrics:
        _check_classes(splits)
    return splits


def load_calibration(job: SweepJob, open_split: Open, world: World, splits: Mapping[str, Split]) -> Split | None:
    """Return the training images from which running statistics are estimated anew at every point; collective.

    Args:
        job: The job.
        open_split: Opens a split by its name.
        world: The ranks.
        splits: What is evaluated; the training images are loaded where they are not among it.

    Returns:
        The first 1,000 of the training split; None where the statistics are not estimated anew.

    Raises:
        UserError: the training images are absent, or there is but one.
    """
    if job.evaluate.batchnorm != "recompute":
        return None
    if "train" in splits:
        split = _first(splits["train"])
    else:
        made = on_ranks(world, world.local_rank == 0, open_split, "train")
        (split,) = share_splits([] if made is None else [_first(made)], world)
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
    job: SweepJob,
    loss: Loss,
    splits: Mapping[str, Split],
    calibration: Split | None,
    device: torch.device,
    stop: Stop,
) -> Task:
    """Return what is evaluated at every point, with the data resident on the device; dropped where there is to stop."""
    resident = {
        name: replace(split, inputs=to(split.inputs, device), targets=to(split.targets, device))
        for name, split in splits.items()
    }
    precision = PRECISIONS[job.evaluate.dtype]
    images = None if calibration is None else to(calibration.inputs, device)
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
        images,
        names,
        metrics=asked(job.metrics),
    )


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in network.named_parameters() if can_move(tensor)}


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the tensors of a state dict that are neither running statistics nor parameters that can move."""
    others = {*_parameters(network), *statistics_of(network)}
    state = network.state_dict().items()
    return {name: value.clone() for name, value in state if isinstance(value, Tensor) and name not in others}


def plain_arrays(network: nn.Module) -> nn.Module:
    """Return the network.

    Raises:
        UserError: a tensor of it is no plain array.
    """
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
            raise UserError(
                f"model: the network holds `{name}` as a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}; "
                "expected plain arrays of numbers."
            )
    return network


def _check_classes(splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        if not is_classes(split.targets):
            raise UserError(
                f"metrics: accuracy needs class targets, whole numbers [n]; the {name} split has "
                f"{describe(split.targets)}; write metrics: [loss]{_column(split)}."
            )


def _column(split: Split) -> str:
    """Say how classes in a column become classes."""
    targets = split.targets
    column = isinstance(targets, torch.Tensor) and targets.dim() == 2 and targets.shape[1] == 1
    return ", or return targets[:, 0] from data.build" if column else ""
