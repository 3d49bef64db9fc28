"""Holds the one network of a rank whose weights are those of one point at a time, set in place."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from landscape_mpi.evaluate.batchnorm import set_statistics
from landscape_mpi.evaluate.evaluator import Network, Point
from landscape_mpi.evaluate.streamed import Streamed
from landscape_mpi.networks.copies import duplicate
from landscape_mpi.plane import Plane


class Live(Protocol):
    """A network that can be moved along a plane, and is called as the network itself."""

    network: nn.Module
    """The module, in eval mode; its parameters may have no memory between calls."""

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point."""

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""

    @property
    def nbytes(self) -> int:
        """Bytes of the weights that are there at one time."""

    @property
    def description(self) -> str:
        """Say in a few words how the weights are held; empty where that is the usual way."""


class Resident:
    """A network all of whose weights stay in memory; a move sets each of them, one tensor after the other.

    They are computed from theta and the directions each time, never from those of the point before: so after any
    number of moves the centre is theta to the bit.
    """

    def __init__(self, network: nn.Module) -> None:
        """Take a network in eval mode, on its device and in its dtype; it is changed in place from here on."""
        self.network = network

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point."""
        return self.network(*inputs, **named)

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                if name in plane.theta:
                    plane.set(name, point, parameter)
        return set_statistics(self.network, plane.statistics.at(*point)) if plane.statistics else 0

    @property
    def nbytes(self) -> int:
        """Bytes of the network's parameters."""
        return sum(parameter.nbytes for parameter in self.network.parameters())

    @property
    def description(self) -> str:
        """Return nothing: this is the usual way."""
        return ""


class Streaming:
    """A network whose weights are built as its modules run, at the present point of a plane, and dropped after."""

    def __init__(self, network: nn.Module, plane: Plane, device: torch.device, dtype: torch.dtype) -> None:
        """Take a network in eval mode, which loses its parameters, and stand at the centre of a plane.

        Raises:
            UserError: a part of the network needs its weights to be there.
        """
        self._plane, self._point, self._device, self._dtype = plane, plane.centre, device, dtype
        self._streamed = Streamed(network, self._build)
        self.network = network

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the network's outputs at the present point. Raises as `Streamed`."""
        return self._streamed(*inputs, **named)

    def move(self, plane: Plane, point: Point) -> int:
        """Go to a point of a plane; return how many running variances would be negative there and are held at 0."""
        self._plane, self._point = plane, point
        return set_statistics(self.network, plane.statistics.at(*point)) if plane.statistics else 0

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
        weights = torch.empty(theta.shape, dtype=dtype, device=self._device)
        self._plane.set(name, self._point, weights)
        return weights


def apart(network: nn.Module | Live) -> Network:
    """Return a copy of a network, with which all that its forward pass changes is lost; a live network itself."""
    return duplicate(network) if isinstance(network, nn.Module) else network
