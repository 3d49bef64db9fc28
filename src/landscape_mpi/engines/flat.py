"""Holds all weights that move with the point in one buffer, as polynomials of its coordinates."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from landscape_mpi.plane import Plane

Exponents = tuple[int, ...]
"""The powers of alpha, beta, ... in a monomial, without zeros at its end."""

CONSTANT: Exponents = ()
ALIGNMENT = 16
"""In elements, which are 64 bytes of float32: the place where a tensor starts must not change the bits of a product."""


@dataclass(frozen=True)
class Polynomial:
    """sum of alpha^i beta^j ... C_ij... over tensors that broadcast with each other; absent tensors are zero.

    They are made, added and multiplied in float64.
    """

    coefficients: Mapping[Exponents, Tensor]

    @staticmethod
    def constant(tensor: Tensor) -> "Polynomial":
        """Return a tensor that stays the same everywhere on the plane."""
        return Polynomial({CONSTANT: tensor.detach().double()})

    @staticmethod
    def parameter(plane: Plane, name: str) -> "Polynomial":
        """Return theta + alpha delta + beta eta + ... of one parameter."""
        found = Polynomial.constant(plane.theta[name]).coefficients
        steps = {(*(0,) * axis, 1): direction[name] for axis, direction in enumerate(plane.directions)}
        return Polynomial({**found, **{key: step.double() for key, step in steps.items() if bool(step.any())}})

    def map(self, linear: Callable[[Tensor], Tensor]) -> "Polynomial":
        """Apply a linear function, which may be done to each coefficient alone."""
        return Polynomial({key: linear(tensor) for key, tensor in self.coefficients.items()})

    def to(self, where: torch.device | torch.dtype) -> "Polynomial":
        """Return it on a device or in a dtype."""
        return self.map(lambda tensor: tensor.to(where))

    def __add__(self, other: "Polynomial") -> "Polynomial":
        total = dict(self.coefficients)
        for key, tensor in other.coefficients.items():
            total[key] = total[key] + tensor if key in total else tensor
        return Polynomial(total)

    def __mul__(self, other: "Polynomial") -> "Polynomial":
        product = Polynomial({})
        for one, left in self.coefficients.items():
            for another, right in other.coefficients.items():
                powers = tuple(i + k for i, k in zip_longest(one, another, fillvalue=0))
                product += Polynomial({powers: left * right})
        return product


class FlatPlane:
    """Polynomials side by side in flat buffers on a device, and the buffer of the present point."""

    def __init__(self, entries: Mapping[str, Polynomial], device: torch.device, dtype: torch.dtype) -> None:
        """Lay the entries out in the buffers; the present point is the centre."""
        self._shapes = {name: entry.coefficients[CONSTANT].shape for name, entry in entries.items()}
        self._starts: dict[str, int] = {}
        length = 0
        for name, shape in self._shapes.items():
            self._starts[name] = length
            length += -(-shape.numel() // ALIGNMENT) * ALIGNMENT
        self._buffers: dict[Exponents, Tensor] = {CONSTANT: torch.zeros(length, device=device, dtype=dtype)}
        for name, entry in entries.items():
            for key, tensor in entry.coefficients.items():
                if key not in self._buffers:
                    self._buffers[key] = torch.zeros(length, device=device, dtype=dtype)
                self._view(self._buffers[key], name).copy_(tensor)
        self._constant = self._buffers.pop(CONSTANT)
        self._point = self._constant.clone()

    def __getitem__(self, name: str) -> Tensor:
        """Return the entry at the present point; the same memory at every point."""
        return self._view(self._point, name)

    def move(self, *coordinates: float) -> None:
        """Go to a point: every view that was handed out changes with it."""
        self._point.copy_(self._constant)
        for powers, buffer in self._buffers.items():
            factors = (x**power for x, power in zip(coordinates, powers, strict=False))
            self._point.add_(buffer, alpha=math.prod(factors))

    @property
    def nbytes(self) -> int:
        """Memory of all buffers, in bytes."""
        return self._point.nbytes * (2 + len(self._buffers))

    def _view(self, buffer: Tensor, name: str) -> Tensor:
        shape = self._shapes[name]
        return buffer.narrow(0, self._starts[name], shape.numel()).view(shape)
