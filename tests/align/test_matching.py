"""Weight matching: a shuffled network is found again, noise or not, by the same steps each time."""

import pytest
import torch
from shuffling import IMAGES, found, shuffled, wild

from landscape_mpi.align import match
from landscape_mpi.networks.zoo import ZOO
from support import tiny


@pytest.fixture(scope="module")
def pair():
    """A ResNet-20, its structure, its weights, and its tensors in another order."""
    torch.manual_seed(0)
    network = wild(ZOO["resnet20"](width=4))
    structure = found(network, IMAGES.double())
    _, before, after = shuffled(network, structure)
    return structure, {name: t.detach() for name, t in network.named_parameters()}, before, after


def test_a_shuffled_network_is_put_back(pair):
    structure, theta, before, after = pair
    one = match(structure, theta, after)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.apply(after).items())
    assert one.after < 1e-5 * one.before
    assert one.moved > 50


def test_noise_does_not_hide_the_order_nor_does_a_seed(pair):
    structure, theta, _, after = pair
    noisy = {name: t + 0.02 * torch.randn_like(t) if t.is_floating_point() else t for name, t in after.items()}
    exact = match(structure, theta, after)
    for seed in (0, 1):
        one = match(structure, theta, noisy, seed)
        assert all(torch.equal(order, exact.permutations[group]) for group, order in one.permutations.items())


def test_distances_are_those_of_the_weights(pair):
    structure, theta, *_ = pair
    torch.manual_seed(5)
    other = {name: torch.randn_like(tensor) for name, tensor in theta.items()}
    one, again = match(structure, theta, other), match(structure, theta, other)
    assert all(torch.equal(order, again.permutations[group]) for group, order in one.permutations.items())
    # the bias of the last layer has no units to permute
    names = [name for name in theta if any(any(axis) for axis in structure.axes[name]) and name != "linear.bias"]
    aligned = one.apply(other)
    for expected, state in ((one.before, other), (one.after, aligned)):
        distance = sum((state[name] - theta[name]).square().sum() for name in names).sqrt()
        assert expected == pytest.approx(float(distance), rel=1e-9)
    assert one.after < one.before


def test_a_network_matches_itself():
    network = wild(tiny.network(batchnorm=True))
    theta = {name: t.detach() for name, t in network.named_parameters()}
    one = match(found(network, torch.randn(2, 4).double()), theta, theta)
    assert (one.moved, one.before) == (0, pytest.approx(0, abs=1e-5))
