"""Holds a plane theta* + alpha delta + beta eta in parameter space, and the arithmetic of parameters by name."""

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
    """A plane through theta, or a line where eta is None; parameters by name in `named_parameters()` order.

    `statistics`: buffers by name, as a plane of their own, where some move along with the parameters: the running
    statistics of batch norm (the "states" of the paper's code), and what else differs between two checkpoints. None
    where none does; norms and angles are of parameters alone.
    """

    theta: Parameters
    delta: Parameters
    eta: Parameters | None = None
    statistics: "Plane | None" = None

    @staticmethod
    def along(
        theta: Parameters, directions: Sequence[Mapping[str, Tensor]], buffers: Parameters | None = None
    ) -> "Plane":
        """Return the line along one direction, or the plane along two.

        Args:
            theta: the origin.
            directions: for each parameter, and for each of the buffers, how it moves.
            buffers: what moves along with the parameters; none or empty where nothing does.
        """
        delta, *others = [{name: direction[name] for name in theta} for direction in directions]
        statistics = Plane.along(buffers, directions) if buffers else None
        return Plane(theta, delta, others[0] if others else None, statistics)

    @property
    def directions(self) -> tuple[Parameters, ...]:
        """Delta of a line, delta and eta of a plane."""
        return (self.delta,) if self.eta is None else (self.delta, self.eta)

    def at(self, alpha: float, beta: float = 0.0) -> Parameters:
        """Return theta + alpha delta + beta eta in theta's dtype; at (0, 0) it is theta to the bit."""
        point = {name: tensor.add(self.delta[name], alpha=alpha) for name, tensor in self.theta.items()}
        if self.eta is not None:
            for name, tensor in point.items():
                tensor.add_(self.eta[name], alpha=beta)
        return point

    def to(self, device: torch.device, dtype: torch.dtype) -> "Plane":
        """Return the plane on a device and in a dtype, what is complex in the partner of that."""

        def taken(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype.to_complex() if tensor.is_complex() else dtype)

        theta, delta = ({name: taken(tensor) for name, tensor in part.items()} for part in (self.theta, self.delta))
        eta = None if self.eta is None else {name: taken(tensor) for name, tensor in self.eta.items()}
        return Plane(theta, delta, eta, self.statistics and self.statistics.to(device, dtype))

    @property
    def cosine(self) -> float:
        """Cosine of the angle between delta and eta; NaN on a line, and where one of them is zero."""
        lengths = math.prod(self.norms)
        return math.nan if self.eta is None or lengths == 0 else dot(self.delta, self.eta) / lengths

    @property
    def norms(self) -> tuple[float, float]:
        """||delta|| and ||eta|| over all parameters; the second is NaN on a line."""
        eta = math.nan if self.eta is None else math.sqrt(dot(self.eta, self.eta))
        return math.sqrt(dot(self.delta, self.delta)), eta

    def fingerprint(self) -> str:
        """Return the SHA-256 of names, shapes and bytes of theta, delta and eta, in hexadecimal.

        Statistics are part of it where they move.
        """
        digest = hashlib.sha256()
        for part in (self.theta, self.delta, self.eta):
            digest.update(b"|")
            feed(digest, part or {})
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
