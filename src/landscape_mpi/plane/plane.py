"""The plane theta* + alpha delta + beta eta in parameter space; knows no network, no data and no file."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_mpi.plane.directions import Parameters
from landscape_mpi.plane.kinds import double, real


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

        theta, delta, eta = ({n: taken(t) for n, t in d.items()} if d else None for d in self._parts())
        statistics = self.statistics and self.statistics.to(device, dtype)
        return Plane(theta or {}, delta or {}, eta, statistics)

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
        for part in self._parts():
            digest.update(b"|")
            feed(digest, part or {})
        if self.statistics is not None:
            digest.update(self.statistics.fingerprint().encode())
        return digest.hexdigest()

    def _parts(self) -> tuple[Parameters, Parameters, Parameters | None]:
        return self.theta, self.delta, self.eta


def feed(digest: "hashlib._Hash", parameters: Mapping[str, Tensor]) -> None:
    """Give names, shapes and bytes of parameters to a digest."""
    for name, tensor in parameters.items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Return the inner product of two sets of parameters, accumulated in float64; a complex number counts as a pair."""
    return float(sum(torch.dot(_numbers(a[name]), _numbers(b[name])).item() for name in a))


def _numbers(tensor: Tensor) -> Tensor:
    return real(double(tensor)).flatten()
