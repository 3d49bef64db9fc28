"""Whether fused layers and networks compute what plain ones do, beyond rounding; rewrites nothing."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.engines.layer import Layer, Shape
from landscape_mpi.engines.polynomial import CONSTANT, Polynomial
from landscape_mpi.engines.trace import OtherBranchError

BLUNDER = 1e-2
"""Of the largest value: what differs by more is another function, and not another rounding."""


def differs(fused: Callable[[Tensor], object], network: nn.Module, samples: Sequence[Tensor]) -> str:
    """Say how the fused network fails or differs from the plain one beyond rounding; empty where it does not."""
    for sample in samples:
        with torch.no_grad():
            plain = network(sample.clone())
            try:
                ours = fused(sample.clone())
            except OtherBranchError as error:
                return f"its forward pass depends on the number of images or on their values: {error}"
            except Exception as error:  # whatever an operation has against tensors that lie channels last
                return f"fused it fails ({type(error).__name__}: {error})"
        if isinstance(plain, Tensor) and bool(plain.isfinite().all()) and not _close(ours, plain):
            return "fused it computes something else"
    return ""


def _close(ours: object, plain: Tensor) -> bool:
    return (
        isinstance(ours, Tensor)
        and ours.shape == plain.shape
        and bool(((ours - plain).abs() <= BLUNDER * plain.abs().max() + 1e-6).all())
    )


def is_sound(kind: type[Layer], shape: Shape, size: tuple[int, ...]) -> bool:
    """Whether a layer of a kind computes such a convolution: libraries have wrong ones for some shapes."""
    generator = torch.Generator().manual_seed(0)
    sizes = size, (shape.channels, shape.channels_in // shape.groups, *shape.kernel), (shape.channels,)
    x, weight, bias = (torch.randn(one, generator=generator, dtype=shape.dtype).to(shape.device) for one in sizes)
    transformed = kind.transform(Polynomial.constant(weight)).coefficients[CONSTANT].to(shape.dtype).contiguous()
    with torch.no_grad():
        plain = functional.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)
        ours = kind.build(shape, transformed, bias)(x, None)
    return _close(ours, plain.relu() if shape.relu else plain)
