"""Normalisation by filter and by layer; norms of rows, in the promised order, also of numbers that are drawn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.plane import counter
from landscape_mpi.plane.counter import KINDS
from landscape_mpi.plane.normalise import (
    LANES,
    drawn_norms,
    filter_normalise,
    layer_normalise,
    norms_by_kernel,
    norms_by_numpy,
    row_norms,
    steepest,
)
from landscape_mpi.plane.parameters import dot

KEYS = (0x0123456789ABCDEF, 0xFEDCBA9876543210)


@pytest.mark.slow
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(0, 2**31))
def test_filter_norms_are_those_of_theta(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(shape, generator=generator) * 10 ** torch.randn((), generator=generator)
    d = filter_normalise(torch.randn(shape, generator=generator), theta)
    for d_filter, theta_filter in zip(d, theta, strict=True):
        assert d_filter.norm().item() == pytest.approx(theta_filter.norm().item(), rel=1e-5)


@given(st.floats(1e-3, 1e3))
def test_filter_normalisation_forgets_the_length_of_d(factor):
    generator = torch.Generator().manual_seed(1)
    d, theta = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    torch.testing.assert_close(filter_normalise(d * factor, theta), filter_normalise(d, theta))


def test_a_filter_of_norm_zero_stays_zero():
    weight = torch.randn((6, 3, 3, 3), generator=torch.Generator().manual_seed(7))
    weight[2] = 0
    d = filter_normalise(torch.randn(weight.shape), weight)
    assert not d[2].any()
    assert d[1].any()
    assert torch.isfinite(d).all()


def test_layer_normalisation_gives_the_norm_of_the_whole_tensor():
    weight = torch.randn((4, 6), generator=torch.Generator().manual_seed(7))
    d = layer_normalise(torch.randn(weight.shape), weight)
    assert d.norm().item() == pytest.approx(weight.norm().item(), rel=1e-6)
    assert (d.norm(dim=1) / weight.norm(dim=1)).std() > 0.01


def promised(row):
    """The norm of one row, number by number."""
    sums = [0.0] * LANES
    for j, number in enumerate(row.tolist()):
        sums[j % LANES] += number * number
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [sums[i] + sums[half + i] for i in range(half)]
    return math.sqrt(sums[0])


@given(st.integers(0, 5), st.integers(0, 70), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_squares_are_added_in_the_order_that_is_promised(rows, width, dtype):
    theta = torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).to(dtype)
    assert row_norms(theta).tolist() == [promised(row.double()) for row in theta]


@pytest.mark.parametrize("shape", [(1, 100_001), (3, 40_000), (5000, 27), (70_000, 1), (2, 32_768)])
def test_long_and_many_rows(shape):
    numbers = counter.draw(KEYS, 0, math.prod(shape)).reshape(shape)
    found = row_norms(torch.from_numpy(numbers))
    assert found[-1] == promised(numbers[-1].astype(np.float64))
    np.testing.assert_allclose(found, np.linalg.norm(numbers.astype(np.float64), axis=1), rtol=1e-12)
    assert torch.equal(drawn_norms(KEYS, *shape), found)


@pytest.mark.kernel
@given(st.integers(0, 40), st.integers(0, 400), st.sampled_from([*KINDS]))
def test_the_kernel_gives_the_bits_of_numpy_by_every_instruction_set(rows, width, dtype):
    theta = torch.randn(rows, width, generator=torch.Generator().manual_seed(width)).to(dtype)
    for array in (theta, None):
        expected = norms_by_numpy(array, KEYS, rows, width)
        for level in range(counter.library().landscape_normal_level() + 1):
            assert torch.equal(norms_by_kernel(array, KEYS, rows, width, level), expected), counter.LEVELS[level]


@pytest.mark.kernel
@pytest.mark.parametrize("shape", [(2, 100_001), (70_000, 1)])
def test_the_kernel_gives_the_bits_of_numpy_for_long_and_many_rows(shape):
    assert torch.equal(drawn_norms(KEYS, *shape), norms_by_numpy(None, KEYS, *shape))


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["filter", "layer", "weight", "none"])
@given(seed=st.integers(0, 2**31))
def test_a_loss_rises_most_along_its_steepest_ascent_of_all_that_are_as_long(normalise, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv": (3, 2, 2, 1), "bias": (4,), "scale": (), "none": (0, 2)}
    theta, gradient, other = (
        {name: torch.randn(shape, generator=generator).double() for name, shape in shapes.items()} for _ in range(3)
    )
    found = steepest(gradient, theta, normalise)
    assert {name: (d.shape, d.dtype) for name, d in found.items()} == {
        name: (theta[name].shape, torch.float32) for name in shapes
    }
    rival = steepest(other, theta, normalise)  # as long, another way

    def length(d):
        if normalise in ("filter", "layer"):
            return torch.cat(
                [
                    d[name].reshape(3 if (name, normalise) == ("conv", "filter") else 1, -1).norm(dim=1)
                    for name in list(shapes)[:3]
                ]
            )
        parts = [d[name] / theta[name] if normalise == "weight" else d[name] for name in shapes]
        return torch.cat([part.flatten() for part in parts]).norm().reshape(1)

    expected = length(theta) if normalise in ("filter", "layer") else torch.tensor([math.sqrt(12 + 4 + 1)])
    torch.testing.assert_close(length(found).double(), expected.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(length(rival).double(), expected.double(), rtol=1e-5, atol=1e-6)
    assert dot(gradient, found) >= dot(gradient, rival) - 1e-6


def test_where_a_gradient_is_zero_its_steepest_ascent_is():
    theta = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}
    gradient = {"weight": torch.tensor([[0.0, 0, 0], [0, 2, 0]]), "bias": torch.zeros(2)}
    found = steepest(gradient, theta, "filter")
    assert found["weight"].tolist() == [[0, 0, 0], [0, pytest.approx(math.sqrt(3)), 0]]
    for normalise in ("none", "weight", "layer"):
        still = steepest({name: torch.zeros_like(g) for name, g in gradient.items()}, theta, normalise)
        assert not any(d.any() for d in still.values())
