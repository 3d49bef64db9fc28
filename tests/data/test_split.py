"""Which examples a job takes, by a seed or in their order; normalisation with torchvision's numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.data import DEFAULT_NORMALISATION, Normalisation, load_split
from landscape_mpi.data.split import Choice
from landscape_mpi.errors import UserError, render
from landscape_mpi.job import SweepJob, difference, read_job

INPUTS = torch.arange(80.0).reshape(20, 4)
SORTED = torch.arange(20) // 5


class Items:
    """A data set that notes which of its items are asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.asked.append(index)
        return INPUTS[index], int(SORTED[index])


def load(found, limit=None, **options):
    return load_split("mine:data", None, "train", {}, limit, lambda *_: found, **options)


@given(st.integers(0, 2**62), st.integers(1, 300), st.integers(1, 300))
def test_an_order_is_a_permutation_of_seed_and_number_alone_and_a_limit_takes_its_beginning(seed, count, limit):
    whole = Choice(order=seed).of(count)
    assert sorted(whole) == list(range(count))
    assert np.array_equal(Choice(limit, seed).of(count), whole[:limit])


def test_the_order_of_a_seed_stays():
    assert Choice(order=0).of(10).tolist() == [3, 8, 5, 9, 6, 0, 7, 1, 4, 2]
    assert Choice(order=1).of(10).tolist() != Choice(order=0).of(10).tolist()


def test_without_a_seed_they_are_the_first():
    assert Choice(7).of(20) == slice(0, 7)
    assert Choice(7).of(5) == Choice().of(5) == slice(0, 5)


def test_pairs_and_data_sets_are_taken_in_the_same_order_and_no_other_item_is_read():
    items, wanted = Items(), Choice(6, 3).of(20)
    pair, stacked = load((INPUTS, SORTED.numpy()), limit=6, order=3), load(items, limit=6, order=3)
    assert torch.equal(pair.inputs, INPUTS[wanted])
    assert torch.equal(pair.targets, SORTED[wanted])
    assert stacked.fingerprint() == pair.fingerprint()
    assert set(items.asked) == set(wanted.tolist())


def test_built_in_sets_too():
    options = {"images": 400}
    whole = load_split("shapes10", None, "train", options, None)
    some = load_split("shapes10", None, "train", options, 30, order=2)
    which = Choice(30, 2).of(400)
    assert torch.equal(some.inputs, whole.inputs[which])
    assert torch.equal(some.targets, whole.targets[which])


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (5, "train: the 5 examples taken of 20 hold class 0 alone, of 4 classes; data.order: 0 takes them in a random"),
        (8, "train: the 8 examples taken of 20 hold 2 classes alone, of 4 classes; data.order"),
    ],
)
def test_few_classes_at_the_beginning_of_a_sorted_set_are_told(limit, words):
    assert load((INPUTS, SORTED), limit=limit).notes[0].startswith(words)


def test_of_items_only_one_class_alone_is_known():
    assert "hold class 0 alone; data.order: 0" in load(Items(), limit=5).notes[0]
    assert load(Items(), limit=8).notes == ()


@pytest.mark.parametrize(("limit", "order"), [(None, None), (16, None), (12, 0), (20, None)])
def test_nothing_is_told_of_a_set_of_many_classes_or_all_of_it(limit, order):
    assert load((INPUTS, SORTED), limit=limit, order=order).notes == ()


def test_numbers_to_be_met_are_no_classes():
    assert load((INPUTS, torch.zeros(20)), limit=5).notes == ()


def test_another_order_is_another_experiment(tmp_path):
    def job(data):
        text = (
            f"{{model: {{build: resnet20, checkpoint: net.pt}}, data: {{build: shapes10{data}}}, "
            "plane: {kind: random}, grid: {alpha: [0, 1, 2]}, output: {file: s.h5}}"
        )
        return read_job(text, tmp_path / "job.yaml", SweepJob).values

    assert render(difference(job(""), job(", order: 0"))) == "data.order: the file has None and the job says 0"
    assert difference(job(", order: 0"), job(", order: 0")) is None


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
