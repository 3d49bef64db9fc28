"""Holds the one network of a rank whose weights are those of one point at a time, set in place."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from landscape_mpi.evaluate.evaluator import Network, Point
from landscape_mpi.evaluate.streamed import Streamed
from landscape_mpi.networks.state import duplicate, set_statistics
from landscape_mpi.plane import Plane


class Live(Protocol):
    """A network that can be moved along a plane, and is called as the network itself."""

    network: nn.Module
    """The module, in eval mode; its parameters may have no memory between calls."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point."""

    def placed(self, plane: Plane, device: torch.device) -> Plane:
        """Return a plane on a device, except for the tensors that have no room there beside the weights."""
        return plane.to(device, room(device))

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that are there at one time."""

    @property
    def description(self) -> str:
        """Say in a few words how the weights are held; empty where that is the usual way."""


class Resident(Live):
    """A network all of whose weights stay in memory; a move sets each of them, one tensor after the other.

    Each move computes them from theta and the directions, never from the weights of the point before. So after any
    number of moves the centre is theta to the bit. Weights that a plane leaves at theta are set once.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take a network in eval mode, on its device and in its dtype; it is changed in place from here on."""
        self.network = network
        self._away: set[str] | None = None  # names of parameters that may differ from theta; None before the first move

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point."""
        return self.network(*inputs, **named)

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""
        with torch.no_grad():
            named = {name: p for name, p in self.network.named_parameters() if name in plane.theta}
            moving = set(filter(plane.moves, named))
            self._away = set(named) if self._away is None else self._away | moving  # what follows can be interrupted
            for name in [name for name in named if name in self._away]:
                plane.set(name, point, named[name])
            self._away = moving
        return set_statistics(self.network, plane.statistics.at(*point)) if plane.statistics else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the network's parameters."""
        return sum(parameter.nbytes for parameter in self.network.parameters())

    @property
    def description(self) -> str:
        """Return nothing: this is the usual way."""
        return ""


class Streaming(Live):
    """A network whose weights are built as its modules run, at the present point of a plane, and dropped after."""

    def __init__(self, network: nn.Module, plane: Plane, device: torch.device, dtype: torch.dtype) -> None:
        """Take a network in eval mode, which loses its parameters, and stand at the centre of a plane.

        Raises:
            UserError: a part of the network needs its weights to be there.
        """
        self._plane, self._point = plane, plane.centre
        self._device, self._dtype = device, dtype
        self._memory = _Memory(device)
        self._strides = {name: p.stride() for name, p in network.named_parameters()}  # they decide how products round
        self._streamed = Streamed(network, self._build, self._build_rows if device.type == "cpu" else None)
        self.network = network

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point. Raises as `Streamed`."""
        return self._streamed(*inputs, **named)

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""
        self._plane, self._point = plane, point
        return set_statistics(self.network, plane.statistics.at(*point)) if plane.statistics else 0

    def anew(self, network: nn.Module) -> "Streaming":
        """Return another network at the present point, whose weights are built in the memory of this one's."""
        other = Streaming(network, self._plane, self._device, self._dtype)
        other._point, other._memory = self._point, self._memory
        return other

    @property
    def nbytes(self) -> int:
        """Bytes of the module with the largest weights."""
        return self._streamed.largest

    @property
    def description(self) -> str:
        """Say that weights are streamed."""
        return self._streamed.description

    def _build(self, name: str) -> Tensor:
        theta = self._plane.theta[name]
        dtype = self._dtype.to_complex() if theta.is_complex() else self._dtype
        weights = self._memory.empty(theta.shape, self._strides[name], dtype)
        self._plane.set(name, self._point, weights)
        return weights

    def _build_rows(self, name: str, rows: Tensor) -> Tensor:
        weights = torch.empty(len(rows), self._plane.theta[name].shape[1], dtype=self._dtype)
        self._plane.set_rows(name, self._point, rows, weights)
        return weights


class _Memory:
    """Memory for tensors that are dropped soon, used again for others of the same size.

    The C library would keep freed memory in pieces that fit no other tensor: in the end as much as the network takes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._blocks: dict[int, list[tuple[Tensor, int]]] = {}  # by bytes; each with its number of holders when free

    def empty(self, shape: torch.Size, strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor without values, in a block of memory that nobody else holds."""
        reach = sum((length - 1) * step for length, step in zip(shape, strides, strict=True)) + 1
        size = reach * dtype.itemsize if shape.numel() else 0
        blocks = self._blocks.setdefault(size, [])
        block = next((block for block, holders in blocks if _holders(block) == holders), None)
        if block is None:
            block = torch.empty(size, dtype=torch.uint8, device=self._device)
            blocks.append((block, _holders(block)))
        return block.view(dtype).as_strided(shape, strides)


def _holders(block: Tensor) -> int:
    """Return how many tensors hold the memory of a block, the block itself among them."""
    return int(torch._C._storage_Use_Count(block.untyped_storage()._cdata))


def room(device: torch.device) -> int | None:
    """Return how many bytes of a device theta may take beside the weights; None where it is in the same memory.

    That is half of what is free, as outputs and other ranks need memory too. Where theta is larger it stays in the
    memory of its file, which all ranks of a node share, and each tensor is copied as it is needed. The driver moves
    such copies through page-locked memory of its own; page-locking theta itself would take a copy of it per rank.
    """
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else None


def cuda_name(device: torch.device) -> str:
    """Return a name of a CUDA device of this node that all ranks know: each may see a different device as number 0."""
    return str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index))


def apart(network: nn.Module | Live) -> Network:
    """Return a copy of a network, so that changes by its forward pass are lost; return a live network itself."""
    return duplicate(network) if isinstance(network, nn.Module) else network
