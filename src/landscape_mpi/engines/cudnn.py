"""Fused convolutions by one call of cuDNN each, where PyTorch offers them; float32 on a CUDA device alone."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from landscape_mpi.engines.direct import DirectLayer
from landscape_mpi.engines.layer import Shape
from landscape_mpi.engines.polynomial import Polynomial


def has_fused_cudnn() -> bool:
    """Whether this PyTorch has the fused convolutions; they are no public interface, and AMD's devices lack them."""
    offered = hasattr(torch, "cudnn_convolution_relu") and hasattr(torch, "cudnn_convolution_add_relu")
    return offered and torch.version.cuda is not None and bool(torch.backends.cudnn.is_available())  # type: ignore[no-untyped-call]


class CudnnLayer:
    """Convolutions that a ReLU follows: cuDNN's fused call has no other end."""

    label: ClassVar[str] = "cuDNN"

    @staticmethod
    def fits(shape: Shape) -> bool:
        """Whether cuDNN fuses such a convolution."""
        return shape.relu and shape.device.type == "cuda" and shape.dtype == torch.float32 and has_fused_cudnn()

    @staticmethod
    def transform(weight: Polynomial) -> Polynomial:
        """Return [out, h, w, in / groups]."""
        return DirectLayer.transform(weight)

    @staticmethod
    def build(shape: Shape, weight: Tensor, bias: Tensor) -> nn.Module:
        """Return the module that calls cuDNN."""
        return CudnnConvolution(shape, weight.permute(0, 3, 1, 2), bias)


class CudnnConvolution(nn.Module):
    """Convolution + bias (+ residual) + ReLU in one call."""

    def __init__(self, shape: Shape, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias
        self._sizes = list(shape.stride), list(shape.padding), list(shape.dilation), shape.groups

    def forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Map [n, in, h, w] to [n, out, h', w']."""
        if residual is None:
            y: Tensor = torch.cudnn_convolution_relu(x, self._weight, self._bias, *self._sizes)
        else:
            y = torch.cudnn_convolution_add_relu(x, self._weight, residual, 1.0, self._bias, *self._sizes)
        return y
