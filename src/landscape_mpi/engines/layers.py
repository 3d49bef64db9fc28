"""Defines fused layers, convolution + bias (+ residual) (+ ReLU), and computes them by a library or our own kernel.

The library is the device's: oneDNN on a CPU and cuDNN on a GPU. The kernel convolves 3x3 by Winograd's algorithm.
"""

import ctypes
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.engines.flat import Polynomial
from landscape_mpi.plane.counter import load_kernel

Sizes = tuple[int, int]

EXTENSION = "landscape_mpi.engines._winograd"

P, Q = 3 / 4, 3 / 2
"""The points 0, +-P, +-Q and infinity of the interpolation: exact in binary, with half the error of 0, +-1, +-2."""

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
        """Return the shape of a convolution; `padding` is needed where the convolution's own is given by name."""
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


class DirectLayer:
    """Any convolution; the weights lie channels last."""

    label: ClassVar[str] = "direct"

    @staticmethod
    def fits(_: Shape) -> bool:
        """Every convolution fits."""
        return True

    @staticmethod
    def transform(weight: Polynomial) -> Polynomial:
        """Return [out, h, w, in / groups]."""
        return weight.map(lambda tensor: tensor.permute(0, 2, 3, 1))

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return oneDNN's fused convolution where there is one, else a plain one with the rest done in place."""
        if shape.device.type == "cpu" and shape.dtype == torch.float32 and has_onednn():
            return OneDnnConvolution(shape, weight.permute(0, 3, 1, 2), bias)
        return PlainLayer.build(shape, weight, bias)


class PlainLayer(DirectLayer):
    """Any convolution by torch's own operation alone, which `torch.autocast` handles."""

    label: ClassVar[str] = "plain"

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return a plain convolution with the rest done in place."""
        return PlainConvolution(shape, weight.permute(0, 3, 1, 2), bias)


class ContiguousLayer(DirectLayer):
    """Any convolution, of tensors that are contiguous in memory.

    oneDNN (of PyTorch 2.13) computes some strided convolutions of one input channel wrongly, from three or five
    examples on. It does so where the strides of the weights or the input are those of channels last.
    """

    label: ClassVar[str] = "contiguous"

    @staticmethod
    def transform(weight: Polynomial) -> Polynomial:
        """Return the weights as they are."""
        return weight

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return a plain convolution."""
        return PlainConvolution(shape, weight, bias, contiguous=True)


def has_onednn() -> bool:
    """Whether this PyTorch has the fused convolution; it is not a public interface, so it may be removed."""
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class PlainConvolution(nn.Module):
    """Convolution + bias, then residual and ReLU in place."""

    def __init__(self, shape: Shape, weight: Tensor, bias: Tensor, contiguous: bool = False) -> None:
        super().__init__()
        self._shape, self._weight, self._bias, self._contiguous = shape, weight, bias, contiguous

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        s = self._shape
        if self._contiguous:
            # `contiguous` does not change the strides of a tensor of one channel
            x = torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)
        y = functional.conv2d(x, self._weight, self._bias, s.stride, s.padding, s.dilation, s.groups)
        if residual is not None:
            y += residual
        return y.relu_() if s.relu else y


class OneDnnConvolution(nn.Module):
    """Convolution + bias + residual in one call of oneDNN; its own ReLU would turn NaN into 0, torch's keeps NaN."""

    def __init__(self, shape: Shape, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias
        self._sizes = list(shape.padding), list(shape.stride), list(shape.dilation), shape.groups
        self._relu = shape.relu

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        fused = torch.ops.mkldnn._convolution_pointwise
        if residual is None:
            y: Tensor = fused(x, self._weight, self._bias, *self._sizes, "none", [], "")
        else:
            y = fused.binary(x, residual, self._weight, self._bias, *self._sizes, "add", None, None, [], None)
        return y.relu_() if self._relu else y


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
    """3x3 convolutions of stride 1 in float32 on a CPU, for channels in multiples of 4, by our own kernel.

    Winograd's F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308, section 4).
    """

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
