"""Normalisation: torchvision's numbers, on any float type, and never on the caller's own tensor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.data import DEFAULT_NORMALISATION, Normalisation
from landscape_mpi.errors import UserError

CIFAR10 = DEFAULT_NORMALISATION["cifar10"]


def test_the_defaults_are_those_of_the_contract():
    assert Normalisation((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)) == CIFAR10
    assert "mine:data" not in DEFAULT_NORMALISATION


@given(st.integers(0, 255), st.integers(0, 2))
def test_bytes_are_scaled_and_normalised_by_channel(value, channel):
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[1, channel] = value
    found = CIFAR10.apply(images, torch.float64)
    expected = (value / 255 - CIFAR10.mean[channel]) / CIFAR10.std[channel]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found[1, channel], torch.full((4, 4), expected, dtype=torch.float64))
    torch.testing.assert_close(CIFAR10.apply(images)[1, channel], torch.full((4, 4), expected), rtol=1e-5, atol=1e-6)


def test_floats_are_taken_as_they_are_and_stay_unchanged():
    inputs = torch.rand(5, 3)
    before = inputs.clone()
    found = Normalisation((0.5, 0.0, 1.0), (2.0, 1.0, 0.5)).apply(inputs)
    torch.testing.assert_close(found, (before - torch.tensor([0.5, 0, 1])) / torch.tensor([2, 1, 0.5]))
    assert torch.equal(inputs, before)


def test_the_bits_are_those_of_torchvision():
    """ToTensor divides by 255, Normalize subtracts, then divides; all in float32."""
    images = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(1, 3, 16, 16)
    mean, std = (torch.tensor(values)[:, None, None] for values in (CIFAR10.mean, CIFAR10.std))
    expected = images.to(torch.float32).div(255).sub(mean).div(std)
    assert torch.equal(CIFAR10.apply(images), expected)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 3), (3,)])
def test_another_number_of_channels_is_refused(shape):
    with pytest.raises(UserError, match=r"data\.normalize: has 3 channels, but the inputs have shape"):
        CIFAR10.apply(torch.zeros(shape))


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,)), ((0.5,), (-1.0,)), ((float("nan"),), (1.0,))]
)
def test_numbers_that_make_no_sense_are_refused(mean, std):
    with pytest.raises(UserError, match=r"^data\.normalize: found"):
        Normalisation(mean, std)
