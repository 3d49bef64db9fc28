"""`landscape_mpi.sweep` on networks too large to copy: theta* is the caller's own parameters, which nothing changes."""

import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.sweeping import large, load
from support import tiny
from support.jobs import results

GRID = {"alpha": [-0.5, 0.5, 3], "beta": [-0.5, 0.5, 2]}


@pytest.fixture
def everything_is_large(monkeypatch):
    """Networks of any size are held once."""
    monkeypatch.setattr(large, "LARGE", 0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return tiny.network(batchnorm=True)


def quiet(network, plane=None, grid=GRID, **options):
    return landscape_mpi.sweep(network, "cross_entropy", tiny.data(None, "train"), plane, grid, quiet=True, **options)


def content(surface, folder):
    return results(surface.save(folder / "saved.h5").path)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_weights_held_once_or_streamed_give_the_same_bits_and_stay(network, tmp_path, monkeypatch, dtype, training):
    network.to(dtype).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    parameters = list(map(id, network.parameters()))
    copied = quiet(network, engine="eager")
    streamed = quiet(network, weights="streamed")
    monkeypatch.setattr(large, "LARGE", 0)
    resident = quiet(network, weights="resident")
    assert content(streamed, tmp_path) == content(resident, tmp_path)
    np.testing.assert_allclose(resident.loss(), copied.loss(), rtol=1e-6)
    assert np.ptp(resident.loss()) > 0.01
    assert resident.attributes["checkpoint_sha256"] == copied.attributes["checkpoint_sha256"]
    assert resident.attributes["plane_sha256"] == copied.attributes["plane_sha256"]
    after = network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert list(map(id, network.parameters())) == parameters
    assert network.training is training


def test_theta_is_the_callers_own_memory(network, everything_is_large, monkeypatch):
    found = []
    monkeypatch.setattr(large, "large_theta", spied(large.large_theta, found))
    monkeypatch.setattr(load, "large_theta", large.large_theta)
    quiet(network, grid={"alpha": [0, 1, 2]})
    (theta,) = found
    own = dict(network.named_parameters())
    assert {name: tensor.data_ptr() for name, tensor in theta.parameters.items()} == {
        name: tensor.data_ptr() for name, tensor in own.items()
    }
    assert all(parameter.is_meta for parameter in theta.origin.parameters())
    assert theta.network.nbytes == sum(parameter.nbytes for parameter in own.values())


def spied(function, found):
    """A function that notes what another one returns."""

    def spy(*args, **named):
        found.append(function(*args, **named))
        return found[-1]

    return spy


def ways(network):
    """Planes from a network that are given as objects."""
    torch.manual_seed(4)
    other, third = tiny.network(batchnorm=True), tiny.network(batchnorm=True)
    directions = tuple({"0.weight": torch.randn(8, 4), "0.bias": torch.randn(8)} for _ in range(2))
    return [
        directions,
        {"kind": "interpolate", "to": other.eval(), "via": third.state_dict()},
        {"kind": "interpolate", "to": {"model": other.state_dict()}, "via": third},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("way", range(3))
def test_directions_and_ends_that_are_given(network, tmp_path, monkeypatch, way):
    options = {"batchnorm": "move"} if way else {}
    copied = quiet(network, ways(network)[way], engine="eager", **options)
    monkeypatch.setattr(large, "LARGE", 0)
    resident = quiet(network, ways(network)[way], **options)
    np.testing.assert_allclose(resident.loss(), copied.loss(), rtol=1e-6)
    assert content(quiet(network, ways(network)[way], weights="streamed", **options), tmp_path) == content(
        resident, tmp_path
    )
    assert resident.attributes["plane_sha256"] == copied.attributes["plane_sha256"]


class Merging(nn.Module):
    """A layer with a low-rank update, which is added to its weights in eval mode."""

    def __init__(self):
        super().__init__()
        self.weight, self.update = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(3, 1))

    def train(self, mode=True):
        if mode != self.training:
            with torch.no_grad():
                self.weight += (-1 if mode else 1) * self.update
        return super().train(mode)

    def forward(self, x):
        weight = self.weight + self.update if self.training else self.weight
        return x @ weight.T


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_merges_its_weights_is_copied(everything_is_large, monkeypatch, training):
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Merging())
    network.train(training)
    weight = network[2].weight.detach().clone()
    with pytest.raises(UserError, match=r"computes something from its parameters .* write weights: resident"):
        quiet(network, weights="streamed")
    assert torch.equal(network[2].weight, weight)
    assert network[2].training is training
    with torch.no_grad():
        inputs, targets = tiny.data(None, "train")
        expected = nn.functional.cross_entropy(network.eval()(inputs), targets).item()
    monkeypatch.setattr(load, "large_theta", None)
    middle = quiet(network, plane={"kind": "random", "only": ["2.*"]}, grid={"alpha": [0, 1, 2]}).loss()[0]
    assert middle == pytest.approx(expected, rel=1e-5)


class Remembers(nn.Linear):
    """Computes what it multiplies by once, at its first forward pass."""

    merged = None

    def forward(self, x):
        if self.merged is None:
            self.merged = (2 * self.weight).detach()
        return x @ self.merged.T + self.bias


def test_a_network_that_keeps_what_it_computed_is_refused(everything_is_large):
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Remembers(8, 3))
    with pytest.raises(UserError, match=r"(?s)model: at alpha 0, beta 0 .* keeps what it once computed"):
        quiet(network)


def test_derivatives_are_of_copies(network, everything_is_large):
    with pytest.raises(UserError, match=r'weights: found streamed, and metrics=\["hessian"\] needs the whole network'):
        quiet(network, metrics=["loss", "hessian"], weights="streamed")
    line = {"alpha": [0, 1, 2]}
    assert np.isfinite(quiet(network.double(), metrics=["loss", "hessian"], grid=line).metrics["max_eig"]).all()


def test_an_unknown_way_to_hold_weights_is_refused(network):
    with pytest.raises(UserError, match="weights: found 'mapped'"):
        quiet(network, weights="mapped")
