"""What holds for every kind of fused layer, and the compiled kernel of Winograd's algorithm against float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from landscape_mpi.engines.flat import CONSTANT, Polynomial
from landscape_mpi.engines.fuse import is_sound
from landscape_mpi.engines.layers import (
    CompiledLayer,
    ContiguousLayer,
    DirectLayer,
    PlainLayer,
    Shape,
    library,
    transform_weight,
)

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


def shape_of(channels_in, channels, relu=True, **changes):
    convolution = torch.nn.Conv2d(channels_in, channels, **{"kernel_size": 3, "padding": 1, **changes})
    return Shape.of(convolution, relu)


def both(images, size, channels_in, channels, relu, with_residual):
    """The layer's output and float64's, for Gaussian inputs."""
    x = torch.randn(images, channels_in, *size)
    weight, bias = torch.randn(channels, channels_in, 3, 3) / (3 * channels_in**0.5), torch.randn(channels)
    residual = torch.randn(images, channels, *size) if with_residual else None
    transformed = transform_weight(weight.double()).float()
    layer = CompiledLayer.build(shape_of(channels_in, channels, relu), transformed, bias)
    exact = functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    exact = exact if residual is None else exact + residual
    return layer(x, residual), exact.relu() if relu else exact


@pytest.mark.kernel
@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
    st.sampled_from([4, 8, 12, 16, 24, 32, 64, 80]),
    st.sampled_from([4, 8, 12, 16, 32, 48, 64]),
    st.booleans(),
    st.booleans(),
)
def test_any_size_and_any_channels_convolve(images, size, channels_in, channels, relu, with_residual):
    found, exact = both(images, size, channels_in, channels, relu, with_residual)
    assert found.shape == exact.shape
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-5)


@pytest.mark.kernel
@pytest.mark.parametrize(("images", "size", "channels"), [(33, 32, 16), (70, 16, 32), (64, 8, 64), (3, 20, 256)])
def test_more_tiles_than_fit_a_block(images, size, channels):
    found, exact = both(images, (size, size), channels, channels, relu=False, with_residual=True)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-5)


@pytest.mark.kernel
@pytest.mark.parametrize(
    "changes",
    [{"kernel_size": 5}, {"stride": 2}, {"padding": 0}, {"dilation": 2, "padding": 2}, {"groups": 2}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_convolutions_do_not_fit(changes):
    assert CompiledLayer.fits(shape_of(256, 256))
    assert not CompiledLayer.fits(shape_of(256, 256, **changes))


@pytest.mark.kernel
def test_the_kernel_takes_multiples_of_four():
    assert [library().landscape_winograd_lanes(n, n) for n in (3, 6, 4, 12)] == [0, 0, 4, 4]
    assert library().landscape_winograd_lanes(16, 16) in (4, 8, 16)
