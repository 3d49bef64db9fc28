"""Batch norm that follows a convolution -> its weight and bias, as polynomials of (alpha, beta)."""

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor, nn

from landscape_mpi.engines.polynomial import Polynomial

Lookup = Callable[[Tensor], Polynomial]
"""A parameter or buffer of the network -> how it moves over the plane."""

T = TypeVar("T")


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, lookup: Lookup) -> tuple[Polynomial, Polynomial]:
    """Return weight [out, in / groups, h, w] and bias [out] of the convolution with the norm that follows it.

    w' = w g / sqrt(v + e) and b' = (b - m) g / sqrt(v + e) + h, for the norm's mean m, variance v, weight g and
    bias h. They are linear in alpha and beta where the norm stays (`ignore: biasbn`), quadratic where g moves too.
    """
    weight = lookup(convolution.weight)
    bias = Polynomial.constant(convolution.weight.new_zeros(convolution.out_channels))
    if convolution.bias is not None:
        bias = lookup(convolution.bias)
    if norm is None:
        return weight, bias
    mean, variance = _present(norm.running_mean).double(), _present(norm.running_var).double()
    inverse = (variance + norm.eps).rsqrt()
    scale = Polynomial.constant(inverse) if norm.weight is None else lookup(norm.weight).map(lambda g: g * inverse)
    folded = (bias + Polynomial.constant(-mean)) * scale
    if norm.bias is not None:
        folded += lookup(norm.bias)
    return weight * scale.map(lambda s: s[:, None, None, None]), folded


def _present(value: T | None) -> T:
    if value is None:
        raise TypeError("expected running statistics, found None")
    return value
