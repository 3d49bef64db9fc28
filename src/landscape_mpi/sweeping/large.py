"""Opens a network too large to copy: theta* is a view of its file, and a rank holds its weights at most once."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from landscape_mpi.errors import Key, UserError
from landscape_mpi.evaluate import Point, Task, statistics_of
from landscape_mpi.evaluate.live import Live, Resident, Streaming
from landscape_mpi.job import HessianPlane, SweepJob
from landscape_mpi.log import note
from landscape_mpi.mpi.launcher import free_memory
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks import sha256
from landscape_mpi.networks.checkpoint import CHECKPOINT
from landscape_mpi.networks.copies import cast, duplicate
from landscape_mpi.networks.files import files_of
from landscape_mpi.networks.meta import build_empty, materialise
from landscape_mpi.plane import Plane
from landscape_mpi.plane.parameters import can_move
from landscape_mpi.plugin import own_code
from landscape_mpi.sweeping.once import open_once
from landscape_mpi.sweeping.precision import PRECISIONS
from landscape_mpi.sweeping.theta import Theta, buffers_of, check_batchnorm

LARGE = 1 << 28
"""Bytes of the parameters, in the dtype of the evaluation, from which on nothing copies them."""
FRACTION = 4
"""A file of this fraction of it may hold as large a network, in fewer bits."""
SHARE = 0.5
"""Of the free memory: where the ranks of a node would take more for their weights, these are streamed."""


@dataclass(frozen=True)
class Opened:
    """A network whose parameters have no memory, and the tensors of its checkpoint.

    Attributes:
        network: in train mode, as it was made; parameters on `meta`, buffers as in the file.
        parameters: theta*, views of the file, in the file's dtype, by the names of `named_parameters()`.
        sha256: of the file.
        streamed: whether weights are built as the network's modules run.
    """

    network: nn.Module
    parameters: Mapping[str, Tensor]
    sha256: str
    streamed: bool


def open_large(path: Path, build: Callable[[], nn.Module], job: SweepJob, world: World) -> Opened | None:
    """Return a large network of a job; None where it is to be copied as small ones are; collective.

    Raises:
        UserError: the checkpoint does not fit, or its weights are to be streamed and something needs copies of them.
    """
    asked = job.evaluate.weights == "streamed"
    copies = _needs_copies(job)
    if asked and copies:
        raise UserError("evaluate.weights", ("found streamed, and ", copies, " needs the whole network at a time"))
    size = together(world, _size, path)
    if copies or (size < LARGE // FRACTION and not asked):
        return None
    network = together(world, build_empty, build)
    dtype = PRECISIONS[job.evaluate.dtype].dtype
    nbytes = sum(tensor.numel() for tensor in network.parameters()) * dtype.itemsize
    if nbytes < LARGE and not asked:
        return None
    parameters = [name for name, tensor in network.named_parameters() if tensor.is_meta]
    whole = any(not can_move(tensor) for tensor in network.parameters())
    if whole:
        return None
    found = open_once(world, network, path, job.model.entry)
    if not set(parameters) <= set(found.state):  # a state dict of its own making
        return None
    for text in found.notes:
        note(world, text)
    with suppress(Exception):  # a network that refuses to be trained has its parameters in eval mode
        network.train()
    every = {name for name, _ in network.named_parameters(remove_duplicate=False)}  # of tied ones all names
    buffers = {name: tensor for name, tensor in found.state.items() if name not in every}
    network.load_state_dict(buffers, strict=False)
    digest = on_ranks(world, world.local_rank == 0, sha256, path)
    digests = {text for text in world.allgather(digest) if text}
    if len(digests) > 1:
        raise UserError(CHECKPOINT, f"{path} is another file on another node", expected="the same file everywhere")
    mapped = {name: found.state.get(name, tensor.detach()) for name, tensor in network.named_parameters()}
    return Opened(network, mapped, digests.pop(), asked or _streams(job, nbytes, world))


def _streams(job: SweepJob, nbytes: int, world: World) -> bool:
    """Return whether the weights of all ranks would take too much of what is free, and say so; collective."""
    if job.evaluate.weights == "resident":
        return False
    hosts = world.allgather(world.host)
    free = free_memory()
    needed = hosts.count(world.host) * nbytes
    texts = world.allgather(
        f"{hosts.count(world.host)} x {nbytes / 1e9:.3g} GB on {world.host}, which has {free / 1e9:.3g} GB free"
        if free is not None and needed > SHARE * free
        else ""
    )
    text = next(filter(None, texts), "")
    if text:
        note(world, f"weights are streamed, a layer at a time: {text}.")
    return bool(text)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in files_of(path, CHECKPOINT))


def _needs_copies(job: SweepJob) -> Key | None:
    """Return the key of a job that asks for derivatives, which are taken of a network in memory."""
    if "hessian" in job.metrics:
        return Key("metrics", ("hessian",))
    return Key("plane.kind") if isinstance(job.plane, HessianPlane) else None


def large_theta(opened: Opened, job: SweepJob, device: torch.device) -> Theta:
    """Return theta* of a large network, which stands there.

    Raises:
        UserError: the network has no batch norm to treat as asked.
    """
    statistics = statistics_of(opened.network)
    check_batchnorm(job.evaluate, statistics)
    plane, dtype = Plane(opened.parameters, ()), PRECISIONS[job.evaluate.dtype].dtype
    live: Live
    if opened.streamed:
        network = cast(duplicate(opened.network), device, dtype)
        with own_code("model.build", "eval() of the network"):
            network.eval()
        live = Streaming(network, plane, device, dtype)
    else:
        live = Resident(network_at(opened.network, plane, (), device, dtype))
    buffers = buffers_of(opened.network)
    return Theta(live, opened.network, opened.parameters, statistics, buffers, opened.sha256)


def network_at(origin: nn.Module, plane: Plane, point: Point, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a network of its own at a point, in eval mode, made as users make one: the weights are loaded before that.

    Args:
        origin: The network in train mode; its parameters have no memory.
        plane: Of its parameters.
        point: Where on the plane.
        device: Of all tensors.
        dtype: Of real parameters and buffers; complex ones have the partner of it.
    """
    network = materialise(duplicate(origin), device, dtype)
    Resident(network).move(plane, point)
    with own_code("model.build", "eval() of the network"):
        return network.eval()


def renew(theta: Theta, plane: Plane, point: Point, task: Task) -> None:
    """Put a network made at a point in the place of the resident one, whose weights are given up first."""
    if isinstance(theta.network, Resident):
        theta.network.network = theta.origin  # so that the memory is free
        theta.network.network = network_at(theta.origin, plane, point, task.device, task.dtype)
