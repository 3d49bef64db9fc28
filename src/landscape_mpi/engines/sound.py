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
IMAGES = 16
"""That a layer is tried on: libraries were seen to go wrong from three or from five on."""


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
        if isinstance(plain, Tensor) and not _close(ours, plain):
            return "fused it computes something else"
    return ""


def _close(ours: object, plain: Tensor) -> bool:
    """Whether two outputs are close where both are finite; images that are not are evaluated plainly anyway."""
    if not isinstance(ours, Tensor) or ours.shape != plain.shape:
        return False
    tame = plain.isfinite() & ours.isfinite()
    ours, plain = ours[tame], plain[tame]
    return bool(((ours - plain).abs() <= BLUNDER * plain.abs().amax() + 1e-6).all()) if len(plain) else True


def is_sound(kind: type[Layer], shape: Shape, size: tuple[int, ...]) -> bool:
    """Whether a layer of a kind computes such a convolution: libraries have wrong ones for some shapes."""
    generator = torch.Generator().manual_seed(0)
    sizes = (IMAGES, *size[1:]), (shape.channels, shape.channels_in // shape.groups, *shape.kernel), (shape.channels,)
    x, weight, bias = (torch.randn(one, generator=generator, dtype=shape.dtype).to(shape.device) for one in sizes)
    transformed = kind.transform(Polynomial.constant(weight)).coefficients[CONSTANT].to(shape.dtype).contiguous()
    layer = kind.build(shape, transformed, bias)
    last = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format).permute(0, 3, 1, 2).copy_(x)
    with torch.no_grad():
        plain = functional.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, shape.groups)
        plain = plain.relu() if shape.relu else plain
        return all(_close(layer(one, None), plain) for one in (x, last))
