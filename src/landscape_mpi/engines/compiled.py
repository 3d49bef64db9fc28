"""Convolves 3x3 by Winograd's F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308, section 4) in a compiled kernel."""

import ctypes
import threading
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from landscape_mpi.engines.flat import Polynomial
from landscape_mpi.engines.layers import Shape
from landscape_mpi.kernels import load_kernel

EXTENSION = "landscape_mpi.engines._winograd"

P, Q = 3 / 4, 3 / 2
"""The points 0, +-P, +-Q and infinity of the interpolation: exact in binary, and half the error of 0, +-1, +-2."""

GP, GQ = 1 / (2 * P**2 * (P**2 - Q**2)), 1 / (2 * Q**2 * (Q**2 - P**2))
G = (
    (1 / (P * Q) ** 2, 0, 0),
    (GP, GP * P, GP * P**2),
    (GP, -GP * P, GP * P**2),
    (GQ, GQ * Q, GQ * Q**2),
    (GQ, -GQ * Q, GQ * Q**2),
    (0, 0, 1),
)
"""Weights [3] -> [6]; the matrices of inputs and outputs are in `kernel/winograd.c`."""

_scratch = threading.local()
"""Scratch memory of each thread: one tensor for all layers, so that it stays in the cache."""


@cache
def library() -> Any:
    """Return the compiled kernel; None where the package was installed without a C compiler."""
    found = load_kernel(EXTENSION)
    if found is None:
        return None
    found.landscape_winograd.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int] * 6
    found.landscape_winograd_scratch.argtypes = [ctypes.c_int] * 2
    found.landscape_winograd_scratch.restype = ctypes.c_long
    return found


def kernel_version() -> str:
    """Return the vector width of the kernel on this machine: `16 floats a vector`, or `none` without a kernel."""
    found = library()
    return f"{found.landscape_winograd_lanes(16, 16)} floats a vector" if found else "none"


def transform_weight(weight: Tensor) -> Tensor:
    """Return G w G^T: [out, in, 3, 3] -> [36, in, out], in the weight's dtype."""
    g = torch.tensor(G, dtype=weight.dtype, device=weight.device)
    return torch.einsum("ai,oqij,bj->abqo", g, weight, g).flatten(0, 1)


class CompiledLayer:
    """3x3 convolutions of stride 1 in float32 on a CPU, for channels in multiples of 4."""

    label: ClassVar[str] = "compiled Winograd"

    @staticmethod
    def fits(shape: Shape) -> bool:
        """Whether the kernel takes such a convolution."""
        if library() is None or shape.device.type != "cpu" or shape.dtype != torch.float32 or not shape.same_3x3:
            return False
        lanes: int = library().landscape_winograd_lanes(shape.channels_in, shape.channels)
        return lanes > 0

    @staticmethod
    def transform(weight: Polynomial) -> Polynomial:
        """Return [36, in, out]."""
        return weight.map(transform_weight)

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return the module that calls the kernel."""
        return CompiledConvolution(shape, weight, bias)


class CompiledConvolution(nn.Module):
    """A call of the kernel, on one thread."""

    def __init__(self, shape: Shape, weight: Tensor, bias: Tensor) -> None:
        """Take transformed weights [36, in, out] and a bias [out]."""
        super().__init__()
        self._weight, self._bias, self._relu = weight, bias, int(shape.relu)
        self._channels = shape.channels_in, shape.channels
        self._kernel = library().landscape_winograd
        self._scratch_floats: int = library().landscape_winograd_scratch(*self._channels)

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h, w], channels last."""
        x = x.contiguous(memory_format=torch.channels_last)
        n, _, height, width = x.shape
        shape = n, self._channels[1], height, width
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        if residual is not None:
            residual = residual.contiguous(memory_format=torch.channels_last)
        scratch: Tensor | None = getattr(_scratch, "tensor", None)
        if scratch is None or scratch.numel() < self._scratch_floats:
            scratch = _scratch.tensor = torch.zeros(self._scratch_floats)
        self._kernel(
            x.data_ptr(),
            self._weight.data_ptr(),
            self._bias.data_ptr(),
            None if residual is None else residual.data_ptr(),
            y.data_ptr(),
            scratch.data_ptr(),
            *(n, height, width, *self._channels, self._relu),
        )
        return y
