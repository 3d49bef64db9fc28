"""Defines the interface of fused layers: convolution + bias (+ residual) (+ ReLU), with weights of the point."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from landscape_mpi.engines.flat import Polynomial

Sizes = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """A convolution without its weights: its sizes, whether a ReLU follows, its device and its dtype."""

    channels_in: int
    channels: int
    kernel: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int
    relu: bool
    device: torch.device
    dtype: torch.dtype

    @staticmethod
    def of(convolution: nn.Conv2d, relu: bool, padding: Sizes | None = None) -> "Shape":
        """Return the shape of a convolution; `padding` where its own is given by name."""
        return Shape(
            convolution.in_channels,
            convolution.out_channels,
            _pair(convolution.kernel_size),
            _pair(convolution.stride),
            padding or _pair(convolution.padding),
            _pair(convolution.dilation),
            convolution.groups,
            relu,
            convolution.weight.device,
            convolution.weight.dtype,
        )

    @property
    def same_3x3(self) -> bool:
        """Whether it is a 3x3 convolution of stride 1 that keeps the size: what Winograd's algorithm is for."""
        ones = (1, 1)
        return (self.kernel, self.stride, self.padding, self.dilation, self.groups) == ((3, 3), ones, ones, ones, 1)


def _pair(sizes: tuple[int, ...] | str) -> Sizes:
    if isinstance(sizes, str):
        raise TypeError(f"expected two numbers, found {sizes!r}")
    return sizes[0], sizes[-1]


class Layer(Protocol):
    """A way to compute fused convolutions."""

    label: ClassVar[str]

    @staticmethod
    def fits(shape: Shape, /) -> bool:
        """Whether this kind of layer can compute such a convolution, and is fast for it."""

    @staticmethod
    def transform(weight: Polynomial, /) -> Polynomial:
        """Transform weights [out, in / groups, h, w], linearly, into what `build` takes."""

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor, /) -> nn.Module:
        """Return the module (x [n, in, h, w], residual or None) -> [n, out, h', w'].

        `weight` (transformed) and `bias` [out] are views of the flat buffer: they change with the point.
        """
