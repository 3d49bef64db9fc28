"""shapes10: the same images everywhere and always, balanced, and no image of one split in the other."""

import hashlib
from functools import cache

import numpy as np
import pytest
import torch

from landscape_mpi.data import DEFAULT_NORMALISATION, load_split
from landscape_mpi.errors import UserError


@cache
def load(split="train", limit=None, **options):
    return load_split("shapes10", None, split, options, limit)


def test_images_and_targets_look_like_those_of_cifar10():
    train, test = load(), load("test")
    assert (train.inputs.shape, train.inputs.dtype) == ((4000, 3, 32, 32), torch.uint8)
    assert (test.inputs.shape, test.targets.dtype) == ((1000, 3, 32, 32), torch.int64)
    assert train.targets.bincount().tolist() == [400] * 10
    assert test.targets.bincount().tolist() == [100] * 10
    assert train.notes == ()


def test_the_images_are_the_same_on_every_machine():
    pixels = load(limit=600).inputs.numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:32] == "94c631b3b0f3fa46c27157069be18ed6"


@pytest.mark.parametrize("limit", [1, 7, 200, 201, 999])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_first_images_do_not_depend_on_how_many_there_are(split, limit):
    few, many = load(split, limit=limit), load(split)
    assert torch.equal(few.inputs, many.inputs[:limit])
    assert torch.equal(few.targets, many.targets[:limit])
    assert torch.equal(load(split, images=8000).inputs[:1000], many.inputs[:1000])


def test_the_limit_does_not_add_images():
    assert len(load(images=40, limit=100)) == 40
    assert len(load("test", images=40, limit=100)) == 10


def test_no_image_is_in_both_splits_or_seeds():
    images = [load(), load("test"), load(seed=1)]
    digests = [hashlib.sha256(image.tobytes()).digest() for split in images for image in split.inputs.numpy()]
    assert len(set(digests)) == 4000 + 1000 + 4000


def test_the_first_images_of_each_hundred_are_shuffled():
    targets = load().targets
    assert (targets[:-1] == targets[1:]).float().mean() == pytest.approx(0.1, abs=0.03)
    assert not torch.equal(targets[:200], targets[200:400])


@pytest.mark.slow
def test_every_class_has_a_shape_of_its_own():
    """The mean shape of each class, from noiseless images, matches its own class on new images far above chance."""
    train, test = (load(split, noise=0, images=8000) for split in ("train", "test"))
    bright = [
        split.inputs.float().mean(1).sub_(split.inputs.float().mean((1, 2, 3))[:, None, None])
        for split in (train, test)
    ]
    means = torch.stack([bright[0][train.targets == label].mean(0) for label in range(10)]).flatten(1)
    guesses = (bright[1].flatten(1) @ (means / means.norm(dim=1, keepdim=True)).T).argmax(1)
    for label in range(10):
        assert (guesses[test.targets == label] == label).float().mean() > 0.2


def test_noise_changes_pixels_by_no_more_than_it_says():
    clean, noisy = (load(noise=noise, limit=200).inputs.int() for noise in (0, 0.1))
    assert 24 <= (clean - noisy).abs().max() <= 26


def test_the_default_normalisation_fits():
    normalised = DEFAULT_NORMALISATION["shapes10"].apply(load().inputs)
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 3}, r"data\.options\.size: .* expected one of images, seed, noise"),
        ({"images": 0}, r"data\.options\.images: found 0 for shapes10; expected a whole number >= 4"),
        ({"images": "many"}, r"data\.options\.images: found 'many'"),
        ({"images": True}, r"data\.options\.images: found True"),
        ({"seed": -1}, r"data\.options\.seed: found -1"),
        ({"noise": 1.5}, r"data\.options\.noise: found 1\.5 .* a number from 0 to 1"),
        ({"noise": float("nan")}, r"data\.options\.noise: found nan"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        load(**options)


def test_an_unknown_split_is_named():
    with pytest.raises(UserError, match=r"data\.splits: shapes10 has no split 'valid'"):
        load("valid")


def test_images_are_bytes_over_the_whole_range():
    values = np.bincount(load(limit=1000).inputs.numpy().ravel(), minlength=256)
    assert values.min() > 0
