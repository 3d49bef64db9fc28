"""Holds a line, plane or volume through theta* in parameter space, and the arithmetic of parameters by name."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Parameters = dict[str, Tensor]
"""Tensors by the names that the network gives them."""


@dataclass(frozen=True)
class Plane:
    """All theta + alpha delta + beta eta + ..., one direction an axis; parameters in `named_parameters()` order.

    Attributes:
        theta: the origin, by name.
        directions: delta of a line; delta and eta of a plane; a third one of a volume.
        statistics: buffers by name, as a plane of their own, where some move along with the parameters: the running
            statistics of batch norm (the "states" of the paper's code), and what else differs between two checkpoints.
            None where none does; norms and angles are of parameters alone.
    """

    theta: Parameters
    directions: tuple[Parameters, ...]
    statistics: "Plane | None" = None

    @staticmethod
    def along(
        theta: Parameters, directions: Sequence[Mapping[str, Tensor]], buffers: Parameters | None = None
    ) -> "Plane":
        """Return the plane along some directions.

        Args:
            theta: the origin.
            directions: for each parameter, and for each of the buffers, how it moves.
            buffers: what moves along with the parameters; none or empty where nothing does.
        """
        statistics = Plane.along(buffers, directions) if buffers else None
        return Plane(theta, tuple({name: direction[name] for name in theta} for direction in directions), statistics)

    @property
    def centre(self) -> tuple[float, ...]:
        """The coordinates of theta: 0 along each direction."""
        return (0.0,) * len(self.directions)

    def at(self, *coordinates: float) -> Parameters:
        """Return theta + alpha delta + beta eta + ... in theta's dtype; at the centre it is theta to the bit.

        Args:
            coordinates: alpha, beta, ...: one a direction.
        """
        (delta, alpha), *others = zip(self.directions, coordinates, strict=True)
        point = {name: tensor.add(delta[name], alpha=alpha) for name, tensor in self.theta.items()}
        for direction, coordinate in others:
            for name, tensor in point.items():
                tensor.add_(direction[name], alpha=coordinate)
        return point

    def to(self, device: torch.device, dtype: torch.dtype) -> "Plane":
        """Return the plane on a device and in a dtype, what is complex in the partner of that."""

        def taken(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype.to_complex() if tensor.is_complex() else dtype)

        theta, *directions = (
            {name: taken(tensor) for name, tensor in part.items()} for part in (self.theta, *self.directions)
        )
        return Plane(theta, tuple(directions), self.statistics and self.statistics.to(device, dtype))

    def cosine(self, one: int, other: int) -> float:
        """Return the cosine of the angle between two directions; NaN where there is none, or one of them is zero."""
        if max(one, other) >= len(self.directions):
            return math.nan
        lengths = self.norms[one] * self.norms[other]
        return dot(self.directions[one], self.directions[other]) / lengths if lengths else math.nan

    @property
    def norms(self) -> tuple[float, ...]:
        """The norm of each direction over all parameters."""
        return tuple(math.sqrt(dot(direction, direction)) for direction in self.directions)

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, shapes and bytes of theta and the directions, in hexadecimal.

        Statistics are part of it where they move.
        """
        digest = hashlib.sha256()
        second: tuple[Parameters, ...] = ({},) if len(self.directions) == 1 else ()  # of a line, as of a plane
        for part in (self.theta, *self.directions, *second):
            digest.update(b"|")
            feed(digest, part)
        if self.statistics is not None:
            digest.update(self.statistics.fingerprint().encode())
        return digest.hexdigest()


def feed(digest: "hashlib._Hash", parameters: Mapping[str, Tensor]) -> None:
    """Give names, shapes and bytes of parameters to a digest."""
    for name, tensor in parameters.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Return the inner product of two sets of parameters, accumulated in float64; a complex number counts as a pair."""
    total = 0.0
    for name in a:
        one, other = (real(double(tensor)).flatten() for tensor in (a[name], b[name]))
        total += torch.dot(one, other).item()
    return total


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, a complex one in complex128."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def single(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, a complex one in complex64."""
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)


def real(tensor: Tensor) -> Tensor:
    """Return a tensor [...] as it is, a complex one as the pairs [..., 2] of its real and imaginary parts."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def can_move(tensor: Tensor) -> bool:
    """Whether a tensor holds numbers that a direction can change: real or complex, not whole."""
    return tensor.is_floating_point() or tensor.is_complex()
