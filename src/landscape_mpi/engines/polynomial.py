"""Tensors that are polynomials of (alpha, beta), as every parameter of a plane is; knows no network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_mpi.plane import Plane

Exponents = tuple[int, int]
"""The powers of alpha and beta in a monomial."""

CONSTANT: Exponents = (0, 0)


@dataclass(frozen=True)
class Polynomial:
    """sum of alpha^i beta^j C_ij over tensors C_ij that broadcast with each other; absent ones are zero.

    They are made, added and multiplied in float64.
    """

    coefficients: Mapping[Exponents, Tensor]

    @staticmethod
    def constant(tensor: Tensor) -> "Polynomial":
        """Return a tensor that stays the same everywhere on the plane."""
        return Polynomial({CONSTANT: tensor.detach().double()})

    @staticmethod
    def parameter(plane: Plane, name: str) -> "Polynomial":
        """Return theta + alpha delta + beta eta of one parameter."""
        found = Polynomial.constant(plane.theta[name]).coefficients
        steps: dict[Exponents, Tensor] = {(1, 0): plane.delta[name]}
        if plane.eta is not None:
            steps[0, 1] = plane.eta[name]
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
        for (i, j), left in self.coefficients.items():
            for (k, m), right in other.coefficients.items():
                product += Polynomial({(i + k, j + m): left * right})
        return product

    def at(self, alpha: float, beta: float) -> Tensor:
        """Return the tensor at a point, float64."""
        total = torch.zeros(())
        for (i, j), tensor in self.coefficients.items():
            total = total + tensor * (alpha**i * beta**j)
        return total
