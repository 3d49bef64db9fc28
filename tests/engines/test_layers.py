"""What holds for every kind of fused layer."""

import math

import pytest
import torch

from landscape_mpi.engines.compiled import CompiledLayer
from landscape_mpi.engines.flat import CONSTANT, Polynomial
from landscape_mpi.engines.fuse import is_sound
from landscape_mpi.engines.layers import ContiguousLayer, DirectLayer, PlainLayer, Shape

KINDS = [DirectLayer, PlainLayer, pytest.param(CompiledLayer, marks=pytest.mark.kernel)]


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


@pytest.mark.parametrize("images", [1, 3, 8])
@pytest.mark.parametrize("relu", [False, True])
def test_a_contiguous_layer_is_right_for_one_channel_of_any_strides(images, relu):
    convolution = torch.nn.Conv2d(1, 4, (3, 2), (1, 2), (1, 0), (2, 1))
    layer = ContiguousLayer.build(Shape.of(convolution, relu), convolution.weight.detach(), convolution.bias.detach())
    x = torch.randn(images, 6, 3, 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        found, expected = layer(x, None), convolution.double()(x.double())
    torch.testing.assert_close(found.double(), expected.relu() if relu else expected, rtol=0, atol=1e-5)


def test_a_kind_that_computes_something_else_is_not_sound():
    class Wrong(DirectLayer):
        @staticmethod
        def build(shape, weight, bias):
            right = DirectLayer.build(shape, weight, bias)
            return lambda x, residual: right(x, residual) + (len(x) > 2)

    shape = Shape.of(torch.nn.Conv2d(3, 4, 3), relu=False)
    assert is_sound(DirectLayer, shape, (2, 3, 6, 6))
    assert not is_sound(Wrong, shape, (2, 3, 6, 6))
