"""What holds for every kind of fused layer."""

import math

import pytest
import torch

from landscape_mpi.engines.compiled import CompiledLayer
from landscape_mpi.engines.direct import DirectLayer, PlainLayer
from landscape_mpi.engines.layer import Shape
from landscape_mpi.engines.polynomial import CONSTANT, Polynomial
from landscape_mpi.engines.winograd import WinogradLayer

KINDS = [WinogradLayer, DirectLayer, PlainLayer, pytest.param(CompiledLayer, marks=pytest.mark.kernel)]


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_comes_through_the_relu(kind, with_residual):
    convolution = torch.nn.Conv2d(16, 16, 3, padding=1)
    weight = kind.transform(Polynomial.constant(convolution.weight)).coefficients[CONSTANT].float().contiguous()
    layer = kind.build(Shape.of(convolution, relu=True), weight, torch.zeros(16))
    x = torch.zeros(1, 16, 8, 8)
    x[0, 0, 1, 1] = math.nan
    found = layer(x, torch.ones(1, 16, 8, 8) if with_residual else None)
    assert found[0, :, :3, :3].isnan().all()
    assert not found[0, :, 4:, 4:].isnan().any()
