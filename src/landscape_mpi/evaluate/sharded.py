"""Runs a network that several ranks of a node hold together, each a part of every parameter, by torch's fully_shard.

The network is cut into units, such as its blocks. A unit's parameters are put together on every rank just before one of
them is read. They are taken apart again when the forward pass that read them ends, also if it ends by an exception. All
ranks of the group have to do that at once, so each makes the same passes. A rank that has nothing to run, or fails
during a pass, still takes part in the rest of the pass.

The hooks that fully_shard adds are removed: torch's transformer layers take a slower path, with other rounding, where a
module has some.
"""

import functools
import gc
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from landscape_mpi.errors import Flag, Text, UserError
from landscape_mpi.evaluate.evaluator import Point
from landscape_mpi.evaluate.live import cuda_name
from landscape_mpi.evaluate.streamable import check
from landscape_mpi.evaluate.units import own_parameters, units_of
from landscape_mpi.mpi.world import World
from landscape_mpi.networks.state import kept, set_statistics
from landscape_mpi.plane import Plane
from landscape_mpi.plane.parameters import real
from landscape_mpi.plane.rebuild import Part, rebuild

LONG = timedelta(days=30)
"""How long a rank waits for the others of its group: a batch may take any time, and a death is seen at once."""
INTERFACE = "GLOO_SOCKET_IFNAME"
"""Names the network interface of gloo; the ranks of a group are on one node."""
REMEDY: Text = ("sweep it without ", Flag("group"))


class Sharded:
    """A network whose parameters are divided among the ranks of a group; collective, as are all calls of it."""

    def __init__(self, network: nn.Module, group: World, device: torch.device) -> None:
        """Take a network for good.

        Args:
            network: In eval mode; buffers and parameters that have values are on the device, all others on meta.
            group: The ranks that hold it together.
            device: Of this rank.

        Raises:
            UserError: the network needs its weights to be there, or ranks of the group share a CUDA device.
        """
        self._group, self._device = group, device
        self._gather: _Gather | None = None
        self._take(network)

    def renew(self, network: nn.Module) -> None:
        """Take another network, of the same parameters, in the place of the first. Arguments and Raises as above."""
        del self.network, self._passes, self._parts
        gc.collect()  # modules refer to each other; the memory is to be free before more is taken
        self._take(network)

    def _take(self, network: nn.Module) -> None:
        try:
            check(network)
        except UserError as error:
            error.remedy = REMEDY
            raise
        device = self._device
        self.network = network
        self._plane: Plane | None = None
        self._parts: dict[str, tuple[Tensor, list[Part | None]]] = {}
        units = units_of(network)
        whole = {p for p in network.parameters() if p.dim() == 0 or not p.is_contiguous()}  # torch does not shard these
        if not dist.is_initialized():
            _find_others(self._group, device)
        mesh = DeviceMesh.from_group(cast(dist.ProcessGroup, dist.group.WORLD), device.type, mesh_dim_names=("shard",))
        given: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": True}
        if whole:
            given["ignored_params"] = whole
        for unit in reversed(units):
            hooks = unit._forward_pre_hooks, unit._forward_hooks
            own = [set(found) for found in hooks]
            fully_shard(unit, **given)
            for found, before in zip(hooks, own, strict=True):
                for key in set(found) - before:
                    del found[key]
        network._apply(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor)  # type: ignore[no-untyped-call]
        _check_replaced(network)
        divided = [cast(FSDPModule, unit) for unit in units]
        if device.type == "cpu" and hasattr(FSDPModule, "set_custom_all_gather"):
            self._gather_in_memory(divided)
        self._passes = _Passes(divided)

    def _gather_in_memory(self, units: Sequence[FSDPModule]) -> None:
        """Let units be put together in memory that the ranks share, where they can share some; collective."""
        if self._gather is None:
            sizes = _sizes_of(cast(Sequence[nn.Module], units), self._group.size)
            pieces = self._group.share([np.zeros(max(sizes), np.uint8) for _ in range(2)])
            for piece in pieces:
                piece[:1] = self._group.rank  # where memory is not shared, each rank finds its own number
            self._group.barrier()
            if len(set(self._group.allgather(tuple(bytes(piece[:1]) for piece in pieces)))) > 1:
                return
            self._gather = _Gather([torch.from_numpy(piece) for piece in pieces])
        for one in units:
            one.set_custom_all_gather(cast(Any, self._gather))

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point.

        Raises:
            UserError: gradients are asked for, or the network does not run the same modules in every pass.
        """
        return self.network(*inputs, **named)

    @property
    def passes(self) -> int:
        """The number of forward passes of the group so far."""
        return self._passes.made

    def idle(self) -> None:
        """Take part in a forward pass of the others."""
        self._passes.finish()

    def placed(self, plane: Plane, _: torch.device) -> Plane:
        """Return the plane as it is: its parts on this rank go to the device with the first move."""
        return plane

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""
        new = plane is not self._plane
        if new:
            self._plane, self._parts = plane, {}
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name in plane.theta and (new or plane.moves(name)):
                    self._move(name, parameter, plane, point)
        return set_statistics(self.network, plane.statistics.at(*point)) if plane.statistics else 0

    def _move(self, name: str, parameter: nn.Parameter, plane: Plane, point: Point) -> None:
        mine = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if not mine.is_contiguous():
            plane.set(name, point, mine)
            return
        some = self._mine(parameter)
        if name not in self._parts:
            self._parts[name] = plane.parts(name, some, mine.device)
        theta, parts = self._parts[name]
        steps = [(x, part) for x, part in zip(point, parts, strict=True) if part is not None]
        rebuild(real(mine).view(-1), theta, steps, some.start)

    def _mine(self, parameter: nn.Parameter) -> slice:
        """Return which numbers of a parameter this rank holds: the share of its rows that torch gives the rank."""
        numbers = real(parameter.detach()) if not isinstance(parameter, DTensor) else parameter
        if not isinstance(parameter, DTensor):
            return slice(0, numbers.numel())
        rows = parameter.shape[0]
        each = -(-rows // self._group.size)
        width = parameter.numel() // max(rows, 1) * (2 if parameter.is_complex() else 1)
        first = min(self._group.rank * each, rows)
        found = slice(first * width, min(first + each, rows) * width)
        if real(parameter.to_local()).numel() != found.stop - found.start:
            raise RuntimeError(f"torch holds {tuple(parameter.to_local().shape)} of {tuple(parameter.shape)} here")
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of this rank's parts."""
        parts = (p.to_local() if isinstance(p, DTensor) else p for p in self.network.parameters())
        return sum(part.nbytes for part in parts)

    @property
    def description(self) -> str:
        """Say that a group holds the weights."""
        return f"weights held by {self._group.size} ranks together"


def _find_others(group: World, device: torch.device) -> None:
    """Let torch find the other ranks of a group, by a file in a folder of the node, for the whole process."""
    backend = "gloo" if device.type == "cpu" else "nccl"
    if device.type == "cuda" and len(set(group.allgather(cuda_name(device)))) < group.size:
        raise UserError(Flag("group"), f"found {group.size}, and its ranks share a device", "a device for each rank")
    folder = tempfile.mkdtemp(prefix="landscape_mpi-") if group.rank == 0 else ""
    place = Path(group.bcast(folder))
    before = os.environ.get(INTERFACE)
    os.environ.setdefault(INTERFACE, "lo")
    try:
        store = dist.FileStore(str(place / "store"), group.size)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=group.rank, world_size=group.size, timeout=LONG)
        if device.type == "cpu":
            dist.barrier()  # all ranks are connected before the file is removed
        group.barrier()
    finally:
        if before is None:
            os.environ.pop(INTERFACE, None)
        if group.rank == 0:
            with suppress(OSError):
                (place / "store").unlink(missing_ok=True)
                place.rmdir()


class _Gather:
    """Puts parameters together in memory that the ranks of a group share: each writes its part, and reads all.

    Messages of gloo would be copied to the kernel and back, into fresh memory of every rank. There are two pieces, used
    in turn: once all ranks have met for the next piece, no rank reads this one any more. torch calls such an object an
    AllGather, from version 2.8 on.
    """

    def __init__(self, pieces: Sequence[Tensor]) -> None:
        """Take two pieces of memory, uint8, in which the largest unit has room."""
        self._pieces, self._turn = pieces, 0

    def allocate(self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return the memory for a unit, [numbers]; its device is the CPU."""
        del device
        self._turn = 1 - self._turn
        return self._pieces[self._turn][: int(size[0]) * dtype.itemsize].view(dtype)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: dist.ProcessGroup, async_op: bool = False
    ) -> None:
        """Wait until every rank has written its part, `input_tensor`, which is a piece of `output_tensor`."""
        del output_tensor, input_tensor, async_op
        dist.barrier(group)


def _sizes_of(units: Sequence[nn.Module], ranks: int) -> list[int]:
    """Return the bytes of each unit, put together from equal parts of every rank."""
    own = ([one for one in found if isinstance(one, DTensor)] for found in own_parameters(units))
    return [sum(-(-len(one) // ranks) * ranks * one.nbytes // max(len(one), 1) for one in found) for found in own]


def _check_replaced(network: nn.Module) -> None:
    """Refuse a network that keeps a parameter where torch does not look for it, such as in a list of its own.

    Raises:
        UserError: that is so.
    """
    for name, module in network.named_modules():
        if any(tensor.is_meta for tensor in kept(vars(module))):
            where = f"the {type(module).__name__} `{name}`" if name else f"the network, a {type(module).__name__},"
            found = f"{where} keeps a parameter in a place where it cannot be replaced"
            raise UserError("model", found, "parameters of modules", REMEDY)


def _other_order() -> UserError:
    found = "which modules the network runs, or in which order, depends on its inputs"
    return UserError(Flag("group"), found, "the same modules in every forward pass", REMEDY)


class _Parameters(dict[str, nn.Parameter | None]):
    """A module's own parameters, which are put together where something reads them outside of their unit."""

    def __init__(self, own: Mapping[str, nn.Parameter | None], unit: FSDPModule, passes: "_Passes") -> None:
        super().__init__(own)
        self._unit, self._passes = unit, passes

    def __getitem__(self, key: str) -> nn.Parameter | None:
        value = super().__getitem__(key)
        if isinstance(value, DTensor) and self._passes.running:
            self._passes.open(self._unit)
            return super().__getitem__(key)
        return value

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a network that a group of ranks holds cannot be copied")


class _Passes:
    """The forward passes of a group: which units were put together, in which order, the same in every pass."""

    def __init__(self, units: Sequence[FSDPModule]) -> None:
        self.made = 0
        self._order: list[FSDPModule] | None = None  # that of the first pass
        self._seen: list[FSDPModule] = []
        self._open: set[FSDPModule] = set()
        self._running: list[list[FSDPModule]] = []  # for each forward pass of a unit, what was put together for it
        for unit in units:
            self._take(unit)
        taken = set(cast(Sequence[nn.Module], units))

        def let_read(module: nn.Module, unit: FSDPModule) -> None:
            if module._parameters:
                vars(module)["_parameters"] = _Parameters(module._parameters, unit, self)
            for child in module.children():
                let_read(child, cast(FSDPModule, child) if child in taken else unit)

        let_read(cast(nn.Module, units[0]), units[0])

    @property
    def running(self) -> bool:
        """Whether the forward pass of any unit is running."""
        return bool(self._running)

    def open(self, unit: FSDPModule) -> None:
        """Put a unit together for the innermost forward pass that is running, unless it is together already."""
        if unit in self._open:
            return
        if self._order is not None and self._order[len(self._seen) : len(self._seen) + 1] != [unit]:
            raise _other_order()
        for mine in (self._seen, self._running[-1]):
            mine.append(unit)
        self._open.add(unit)
        with torch._C._InferenceMode(False):  # normal tensors, as the parameters of a resident network are
            unit.unshard()

    def finish(self) -> None:
        """Take part in what is left of a pass."""
        for unit in (self._order or [])[len(self._seen) :]:
            with torch._C._InferenceMode(False):
                unit.unshard()
                unit.reshard()
        self._seen = []
        self.made += 1

    def run(self, unit: FSDPModule, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a unit's forward pass, then take apart all that was put together for it."""
        outermost = not self._running
        if outermost and torch.is_grad_enabled():
            what = "networks and losses that take some themselves are swept without "
            raise UserError(Flag("group"), "it evaluates without gradients", remedy=(what, Flag("group")))
        self._running.append([])
        try:
            self.open(unit)
            outputs = forward(*args, **kwargs)
        except BaseException:
            self._close()
            if outermost:
                self.finish()
            raise
        self._close()
        if outermost:
            if self._order is None:
                self._order = list(self._seen)
            short = len(self._seen) < len(self._order)
            self.finish()
            if short:
                raise _other_order()
        return outputs

    def _close(self) -> None:
        for unit in self._running.pop():
            unit.reshard()
            self._open.discard(unit)

    def _take(self, unit: FSDPModule) -> None:
        """Let a unit be put together when its forward pass begins."""
        module = cast(nn.Module, unit)
        forward = module.forward

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            return self.run(unit, forward, *args, **kwargs)

        vars(module)["forward"] = run
