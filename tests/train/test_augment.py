"""Augmentation: every image becomes one of its own crops, and all crops and both flips occur."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from landscape_mpi.errors import UserError
from landscape_mpi.train.learner import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(image, padding):
    """Every crop of the padded image, then their mirror images: [2 (2 padding + 1)^2, channels, height, width]."""
    height, width = image.shape[1:]
    windows = pad(image, (padding,) * 4).unfold(1, height, 1).unfold(2, width, 1)
    plain = windows.permute(1, 2, 0, 3, 4).flatten(0, 1)
    return torch.cat([plain, plain.flip(-1)])


@given(st.integers(0, 2**32), st.integers(0, 4), st.sampled_from([torch.uint8, torch.float32]))
def test_every_image_becomes_one_of_its_own_crops(seed, padding, dtype):
    images = torch.randint(1, 256, (5, 3, 6, 8), generator=generator(seed)).to(dtype)
    found = augment(images, generator(seed), padding)
    assert (found.shape, found.dtype) == (images.shape, dtype)
    for image, changed in zip(images, found, strict=True):
        assert (crops(image, padding) == changed).flatten(1).all(1).any()


def test_every_shift_and_flip_occurs_equally_often():
    image = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8)
    found = augment(image.expand(16_200, 1, 8, 8), generator())
    which = (crops(image[0], 4)[None] == found[:, None]).flatten(2).all(2).int().argmax(1)
    counts = which.bincount(minlength=162)
    assert counts.min() > 50
    assert counts.max() < 160


def test_the_same_generator_draws_the_same():
    images = torch.rand(20, 3, 32, 32)
    assert torch.equal(augment(images, generator(1)), augment(images, generator(1)))
    assert not torch.equal(augment(images, generator(1)), augment(images, generator(2)))


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match=r"train\.augment: the inputs have shape \[5, 4\].*`augment: false`"):
        augment(torch.rand(5, 4), generator())
