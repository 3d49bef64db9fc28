"""Random directions of which nothing is held but a scale a filter: any part of them is drawn when it is needed."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_mpi.plane.counter import GENERATOR, stream_keys
from landscape_mpi.plane.norms import drawn_norms, row_norms
from landscape_mpi.plane.parameters import Parameters, feed, real, row_pieces, standing
from landscape_mpi.plane.rebuild import Drawn, Itself, Part, Rows, direction

Scales = Mapping[str, Tensor]
"""By name, what the random numbers of a parameter are multiplied by: float32, one a filter, or one for all."""


@dataclass(frozen=True, eq=False)
class DrawnDirection(Mapping[str, Tensor]):
    """A random direction by the names of all parameters; a tensor is drawn anew each time that it is asked for.

    Attributes:
        seed: of the random numbers.
        axis: 0 for delta, 1 for eta, 2 for a third one.
        normalise: "filter", "layer", "weight" or "none".
        theta: the parameters.
        moving: the names of those that move; the direction is 0 in all others.
        scales: as `scales_of` returns them for these names.
    """

    seed: int
    axis: int
    normalise: str
    theta: Parameters
    moving: frozenset[str]
    scales: Scales

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor of the direction, float32 or complex64 on the CPU; zeros take no memory.

        Of a complex parameter both the real and the imaginary part are normal.
        """
        theta, part = self.theta[name], self.part(name)
        if part is None:
            return standing(theta)
        found = direction(part, real(theta).reshape(-1).cpu(), 0).view(real(theta).shape)
        return torch.view_as_complex(found) if theta.is_complex() else found

    def pieces(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor of the direction a few rows at a time, float32 on the CPU; complex numbers as pairs.

        Each piece is [n, ...] for n entries of the first dimension; of a tensor without dimensions it is the number.
        """
        theta, part = real(self.theta[name]), self.part(name)
        width = theta[:1].numel() if theta.dim() else 1
        for rows in row_pieces(theta):
            some = theta[rows] if theta.dim() else theta
            if part is None:
                yield torch.zeros(some.shape)
            else:
                yield direction(part, some.reshape(-1).cpu(), rows.start * width).view(some.shape)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all parameters."""
        return iter(self.theta)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self.theta)

    def part(self, name: str, device: torch.device | None = None) -> Part | None:
        """Return how the tensor of a parameter is drawn, there or on another device; None where it stays.

        A tensor of at most one dimension has no filters and takes d = theta under `filter` and `layer`, as in the
        authors' code.
        """
        if name not in self.moving:
            return None
        if self.normalise == "weight":
            return Drawn(self.seed, self.axis, name, "theta")
        if self.normalise == "none":
            return Drawn(self.seed, self.axis, name)
        if self.theta[name].dim() <= 1:
            return Itself()
        scales = self.scales[name].to(device)
        rows = Rows(scales, real(self.theta[name]).numel() // max(scales.numel(), 1))
        return Drawn(self.seed, self.axis, name, rows)

    def to(self, device: torch.device) -> "DrawnDirection":
        """Return the direction with its scales on a device."""
        scales = {name: tensor.to(device) for name, tensor in self.scales.items()}
        return DrawnDirection(self.seed, self.axis, self.normalise, self.theta, self.moving, scales)

    def fingerprint(self) -> str:
        """Return the SHA-256 of what the direction is drawn by: generator, seed, axis, names, shapes and scales."""
        digest = hashlib.sha256(f"{GENERATOR} {self.seed} {self.axis} {self.normalise}".encode())
        for name, tensor in self.theta.items():
            if name in self.moving:
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.is_complex()}".encode())
        feed(digest, self.scales)
        return digest.hexdigest()


def scales_of(seed: int, axis: int, normalise: str, theta: Parameters, names: Iterable[str]) -> dict[str, Tensor]:
    """Return what the random numbers of some parameters are multiplied by: float32, one a filter or one a layer.

    d_ij <- d_ij / ||d_ij|| * ||theta_ij|| (Li et al., section 4) over each slice along dimension 0, or over the whole
    tensor under `layer`; 0 where a norm is 0. Nothing for tensors that have no such scale: those of at most one
    dimension, and all under `weight` and `none`.
    """
    found: dict[str, Tensor] = {}
    if normalise not in ("filter", "layer"):
        return found
    for name in names:
        tensor = real(theta[name])
        if theta[name].dim() > 1:
            rows = len(tensor) if normalise == "filter" else 1
            width = tensor.numel() // max(rows, 1)
            drawn = drawn_norms(stream_keys(seed, axis, name), rows, width)
            ours = row_norms(tensor.reshape(rows, width))
            found[name] = torch.where(drawn > 0, ours / drawn, torch.zeros_like(drawn)).float()
    return found
