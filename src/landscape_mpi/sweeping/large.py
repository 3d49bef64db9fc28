"""Opens a network too large to copy: a rank holds its weights at most once, beside theta*, which is a view of its file.

If a network is given as an object, theta* is its own parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from landscape_mpi.assemble import give_back_memory, keep_no_memory
from landscape_mpi.errors import Flag, Key, Text, UserError
from landscape_mpi.evaluate import Point, Task
from landscape_mpi.evaluate.live import Live, Resident, Streaming
from landscape_mpi.evaluate.streamable import REMEDY, merging
from landscape_mpi.job import HessianPlane, SweepJob, WorstPlane
from landscape_mpi.log import note
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.networks import sha256
from landscape_mpi.networks.checkpoint import CHECKPOINT, load_fitted, widen
from landscape_mpi.networks.files import files_of
from landscape_mpi.networks.meta import build_empty, empty_copy, materialise
from landscape_mpi.networks.state import cast, duplicate, statistics_of
from landscape_mpi.plane import Plane
from landscape_mpi.plane.parameters import can_move
from landscape_mpi.plugin import own_code
from landscape_mpi.sweeping.memory import Weights
from landscape_mpi.sweeping.once import open_once
from landscape_mpi.sweeping.precision import PRECISIONS
from landscape_mpi.sweeping.theta import Theta, buffers_of, check_batchnorm

LARGE = 1 << 28
"""Bytes of the parameters, in the dtype of the evaluation; a network of this size or more is not copied."""
FRACTION = 4
"""A file of at least LARGE / FRACTION bytes may hold a large network, in fewer bits."""


GROUPS: Text = ("sweep it without ", Flag("group"))
"""What to do where several ranks cannot hold a network together."""


@dataclass(frozen=True)
class Opened:
    """A network whose parameters have no memory, and the tensors of its checkpoint.

    Attributes:
        network: in train mode, as it was made; parameters on `meta`, buffers as in the file.
        parameters: theta*, views of the file or tensors of the network that was given, in their dtype, on the CPU, by
            the names of `named_parameters()`.
        sha256: of the file, or of what was given.
    """

    network: nn.Module
    parameters: Mapping[str, Tensor]
    sha256: str


def open_large(
    path: Path, build: Callable[[], nn.Module], job: SweepJob, world: World, group: int | None = None
) -> Opened | None:
    """Return a large network of a job; None where it is to be copied as small ones are; collective.

    Args:
        path: Of the checkpoint.
        build: Makes the network.
        job: The job.
        world: The ranks.
        group: How many ranks hold the network together, if that is asked for; then any network counts as large.

    Raises:
        UserError: the checkpoint does not fit, or its weights are to be streamed or held by a group, and something
            needs copies of them.
    """
    asked = _asked(job, group)
    size = together(world, _size, path)
    if _needs_copies(job, asked) or (size < LARGE // FRACTION and not asked):
        return None
    network = together(world, build_empty, build)
    reason = _copied_always(network)
    if not asked and (reason or _weights(network, job).resident < LARGE):
        return None
    found = open_once(world, network, path, job.model.entry)
    if reason := reason or _not_by_name(network, found.state):
        if asked:
            raise UserError(asked.key, f"{asked.found}, and {reason}", remedy=asked.remedy)
        return None
    for text in found.notes:
        note(world, text)
    with suppress(Exception):  # if `train()` raises, the parameters are those of eval mode
        network.train()
    widen(network, found.state, PRECISIONS[job.evaluate.dtype].dtype)
    _set_buffers(network, found.state)
    mapped = {name: found.state.get(name, tensor.detach()) for name, tensor in network.named_parameters()}
    return Opened(network, mapped, _agreed_sha256(path, world))


@dataclass(frozen=True)
class _Asked:
    """The key that asks for a network without copies, what was found there, and what to do if copies are needed."""

    key: Key | Flag
    found: str
    remedy: Text


def _asked(job: SweepJob, group: int | None) -> _Asked | None:
    """Return what asks for a network that is not copied, whatever its size.

    Raises:
        UserError: its weights are to be streamed, and to be held by several ranks.
    """
    streamed = job.evaluate.weights == "streamed"
    if streamed and group is not None and group > 1:
        found = ("found streamed, and ", Flag("group"), " has several ranks hold the weights together")
        raise UserError("evaluate.weights", found, "auto or resident")
    if streamed:
        return _Asked(Key("evaluate.weights"), "found streamed", REMEDY)
    return _Asked(Flag("group"), f"found {group}", GROUPS) if group is not None else None


def _set_buffers(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name in state:
                buffer.copy_(state[name])


def _agreed_sha256(path: Path, world: World) -> str:
    """Return the fingerprint of a checkpoint; collective: one rank per node reads the whole of it.

    Raises:
        UserError: there is another file on another node.
    """
    digests = world.allgather(on_ranks(world, world.local_rank == 0, sha256, path))
    if len(found := {text for text in digests if text}) > 1:
        raise UserError(CHECKPOINT, f"{path} is another file on another node", expected="the same file everywhere")
    return found.pop()


def take_large(
    network: nn.Module, tensors: Mapping[str, Tensor], fingerprint: Callable[[], str], job: SweepJob, world: World
) -> Opened | None:
    """Return a large network that is given as an object; None where it is to be copied as small ones are; collective.

    Args:
        network: on any device, in any mode; it stays as it is.
        tensors: those of its state dict that count; they may differ from its own.
        fingerprint: gives that of the network with these tensors.
        job: what is asked for.
        world: the ranks.

    Raises:
        UserError: its weights are to be streamed and something needs copies of them, or the network cannot be copied.
    """
    asked = _asked(job, None)
    reason = _copied_always(network)
    if _needs_copies(job, asked) or (not asked and (reason or _weights(network, job).resident < LARGE)):
        return None
    origin = together(world, empty_copy, network)
    if reason := reason or _not_by_name(origin, tensors):
        if asked:
            raise UserError(asked.key, f"{asked.found}, and {reason}", remedy=asked.remedy)
        return None
    merges = None
    with suppress(Exception):  # an error of either mode is reported later
        merges = merging(origin)
    if merges is not None and not asked:  # its parameters are those of train mode, which may be others
        note(world, "the network computes something from its parameters between train and eval mode: it is copied.")
        return None
    with suppress(Exception):  # if `train()` raises, the parameters are those of eval mode
        origin.train()
    _set_buffers(origin, tensors)
    parameters = {name: tensors.get(name, own).detach().cpu() for name, own in origin.named_parameters()}
    return Opened(origin, parameters, on_root(world, fingerprint))


def _weights(network: nn.Module, job: SweepJob) -> Weights:
    """Return what a network's weights take in the dtype of the evaluation."""
    return Weights.of(network, PRECISIONS[job.evaluate.dtype].dtype.itemsize)


def _copied_always(network: nn.Module) -> str:
    """Return why a network has to be copied whatever its size, with the tensor's name; empty if it does not."""
    for name, tensor in chain(network.named_parameters(), network.named_buffers()):
        if is_lazy(tensor):
            return f"`{name}` gets its shape from the first inputs"
    for name, tensor in network.named_parameters():
        if not can_move(tensor):
            return f"the parameter `{name}` holds whole numbers"
    return ""


def _not_by_name(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Return which tensor has another name in a state dict that the network makes itself; empty for none."""
    every = dict(network.named_parameters(remove_duplicate=False))
    if missing := [name for name, tensor in every.items() if tensor.is_meta and name not in state]:
        return f"the network's state dict has another name for its parameter `{missing[0]}`"
    named = {*every, *dict(network.named_buffers(remove_duplicate=False))}
    if others := [name for name in state if name not in named]:
        return f"the network's state dict holds `{others[0]}`, which is neither a parameter nor a buffer"
    return ""


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in files_of(path, CHECKPOINT))


def _needs_copies(job: SweepJob, asked: _Asked | None) -> bool:
    """Return whether a job asks for second derivatives, which are taken of a copy of the network.

    A gradient is taken of the network itself; then all of its weights have to be in memory.

    Raises:
        UserError: something asks for a network that is not copied.
    """
    copies = Key("metrics", job.curvature) if job.curvature else None
    if isinstance(job.plane, HessianPlane):
        copies = copies or Key("plane.kind")
    whole = copies or (Key("plane.kind") if isinstance(job.plane, WorstPlane) else None)
    if whole and asked:
        found = (asked.found, ", and ", whole, " needs the whole network at a time")
        raise UserError(asked.key, found, remedy=asked.remedy)
    return copies is not None


def large_theta(
    opened: Opened, job: SweepJob, device: torch.device, team: World | None = None, *, streamed: bool
) -> Theta:
    """Return theta* of a large network, whose weights are set to theta*.

    `team`: the several ranks that hold it together. `streamed`: whether weights are built as its modules run.

    Raises:
        UserError: the network has no batch norm to treat as asked, or cannot be held so.
    """
    statistics = statistics_of(opened.network)
    check_batchnorm(job.evaluate, statistics)
    plane, dtype = Plane(opened.parameters, ()), PRECISIONS[job.evaluate.dtype].dtype
    live: Live
    if team:
        from landscape_mpi.evaluate.sharded import Sharded  # its imports take a second

        keep_no_memory()
        live = Sharded(without_weights(opened.network, device, dtype, GROUPS), team, device)
        live.move(plane, ())
    elif streamed:
        live = Streaming(without_weights(opened.network, device, dtype), plane, device, dtype)
    else:
        live = Resident(network_at(opened.network, plane, (), device, dtype))
    buffers = buffers_of(opened.network)
    return Theta(live, opened.network, opened.parameters, statistics, buffers, opened.sha256)


@contextmanager
def team_of(world: World, size: int) -> Iterator[World]:
    """Let `size` consecutive ranks, this one among them, hold a network together while the block runs; collective.

    Raises:
        UserError: on every rank, where the ranks cannot be divided so, or those of a team are on several nodes.
    """
    try:
        yield world.team(size)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def network_at(origin: nn.Module, plane: Plane, point: Point, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a separate network at a point, in eval mode, made as users make it: weights are loaded before `eval()`.

    Args:
        origin: The network in train mode; its parameters have no memory.
        plane: Of its parameters.
        point: Where on the plane.
        device: Of all tensors.
        dtype: Of real parameters and buffers; complex ones have the partner of it.
    """
    network = materialise(duplicate(origin), device, dtype)
    Resident(network).move(plane, point)
    if _loads_by_itself(network):
        load_fitted(network, network.state_dict())  # its own state, for what else its code does on loading
        Resident(network).move(plane, point)
    with own_code("model.build", "eval() of the network"):
        return network.eval()


def without_weights(origin: nn.Module, device: torch.device, dtype: torch.dtype, remedy: Text = REMEDY) -> nn.Module:
    """Return a separate network as `network_at` does, whose parameters have no memory.

    Raises:
        UserError: it computes something from its weights when they are loaded, or as it enters eval mode.
    """
    network = cast(duplicate(origin), device, dtype)
    when = "when they are loaded"
    try:
        if _loads_by_itself(network):
            network.load_state_dict(network.state_dict(), strict=False)
        when = "as it enters eval mode"
        return network.eval()
    except Exception as error:  # any error that its own code raises for weights without numbers
        found = f"the network computes something from its weights {when}"
        raise UserError("model", found, "weights that are there when it runs", remedy) from error


def _loads_by_itself(network: nn.Module) -> bool:
    """Whether any module does more than copy what is loaded."""
    return type(network).load_state_dict is not nn.Module.load_state_dict or any(
        module._load_state_dict_pre_hooks
        or module._load_state_dict_post_hooks
        or not type(module)._load_from_state_dict.__module__.startswith("torch.nn.")
        for module in network.modules()
    )


def made_at(theta: Theta, plane: Plane, point: Point, task: Task) -> Live:
    """Return the network made anew at a point, with statistics estimated there if the task estimates them.

    A network whose weights stay in memory replaces that of theta, whose weights are given up first.
    """
    live: Live = theta.network  # type: ignore[assignment]  # of large networks alone
    if isinstance(live, Streaming):
        live = live.anew(without_weights(theta.origin, task.device, task.dtype))
        live.move(plane, point)
    elif not isinstance(live, Resident):
        divided: Any = live
        divided.renew(without_weights(theta.origin, task.device, task.dtype, GROUPS))
        live.move(plane, point)
    else:
        live.network = theta.origin  # so that the memory is free
        give_back_memory()
        live.network = network_at(theta.origin, plane, point, task.device, task.dtype)
    task.calibrate(live.network, live)
    return live
