"""Networks and losses that take gradients themselves are evaluated in the cheapest mode of torch that is right."""

import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi.data import Split
from landscape_mpi.engines import candidates
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import Task, examples_that_fit, first_batch
from landscape_mpi.evaluate.live import Resident
from landscape_mpi.evaluate.losses import cross_entropy, mse
from landscape_mpi.plane import Plane

LINE = {"alpha": [-1, 1, 3]}
PLANE = Plane({"weight": torch.zeros(2, 2)}, ({"weight": torch.zeros(2, 2)},))


class Derivative(nn.Module):
    """u'(z) of a small network u, by torch.autograd in the forward pass."""

    def __init__(self, way="grad"):
        super().__init__()
        self.u, self.way = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)), way

    def forward(self, z):
        if self.way == "grad":
            z = z.requires_grad_(True)
            return torch.autograd.grad(self.u(z).sum(), z, create_graph=True)[0]
        if self.way == "enable":
            with torch.enable_grad():
                z = z.detach().requires_grad_(True)
                return torch.autograd.grad(self.u(z).sum(), z)[0]
        return torch.autograd.functional.jacobian(lambda x: self.u(x).sum(), z)


class Counting(nn.Linear):
    """Counts its forward passes, and in how many examples it takes each."""

    def __init__(self, least=1):
        super().__init__(2, 2)
        self.least, self.seen = least, []

    def forward(self, x):
        self.seen.append(len(x))
        if len(x) < self.least:
            raise ValueError("too few")
        return super().forward(x)


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 2, generator=generator), torch.randn(20, 2, generator=generator)


def task(loss=mse, targets=None):
    inputs, wanted = data()
    return Task({"train": Split("train", inputs, wanted if targets is None else targets)}, None, loss)


def penalty(outputs, targets):
    """A loss that differentiates by the outputs, which carry a graph only where gradients are enabled."""
    square = (outputs - targets).square().sum()
    return torch.autograd.grad(square, outputs)[0].square().sum(1)


@pytest.mark.parametrize(("way", "mode"), [("grad", "enabled"), ("enable", "no_grad"), ("jacobian", "no_grad")])
def test_the_first_mode_that_gives_the_derivative_is_taken(way, mode):
    """torch.autograd.functional gives 0 in inference mode without a word."""
    torch.manual_seed(0)
    network = Derivative(way)
    found = first_batch(task(), network)
    assert found.gradients == mode
    losses = found.evaluate(network, "train", slice(0, 20), 7).losses
    inputs, targets = data()
    np.testing.assert_allclose(losses, (network(inputs).detach() - targets).square().mean(1), rtol=1e-5)


def test_a_loss_that_takes_gradients():
    network = nn.Linear(2, 2)
    found = first_batch(task(penalty), network)
    assert found.gradients == "enabled"
    inputs, targets = data()
    wanted = 4 * (network(inputs) - targets).square().sum(1)
    np.testing.assert_allclose(found.evaluate(network, "train", slice(0, 20), 20).losses, wanted.detach(), rtol=1e-6)


def test_usual_networks_stay_in_inference_mode_and_keep_all_engines():
    found = first_batch(task(), nn.Linear(2, 2))
    assert found.gradients == "inference"
    assert candidates("fused", found, PLANE) == ("fused", "eager")


def test_where_gradients_are_taken_only_the_plain_engine_evaluates():
    assert candidates("fused", first_batch(task(), Derivative()), PLANE) == ("eager",)


def test_no_loss_of_ours_is_less_exact_for_that():
    """Cross entropy is float64 where no gradient is taken of it."""
    network = Derivative()
    found = first_batch(task(cross_entropy, torch.zeros(20, dtype=torch.int64)), network)
    losses = found.evaluate(network, "train", slice(0, 20), 20).losses
    assert not np.array_equal(losses, losses.astype(np.float32))


def test_what_raises_in_every_mode_is_one_sentence():
    with pytest.raises(UserError, match="the forward pass of the network failed with RuntimeError: mat1 and mat2"):
        first_batch(task(), nn.Linear(5, 2))


def test_the_network_itself_stays_untouched():
    network = Counting()
    first_batch(task(), network)
    assert network.seen == []


def test_a_sweep_says_so_and_records_it(capfd):
    torch.manual_seed(0)
    network = Derivative().double()
    inputs, targets = (part.double() for part in data())
    surface = landscape_mpi.sweep(network, "mse", (inputs, targets), grid=LINE)
    wanted = (network(inputs) - targets).square().mean().item()
    assert surface.loss()[1] == pytest.approx(wanted, rel=1e-12)
    assert surface.attributes["gradients"] == "enabled"
    assert "the network or its loss takes gradients itself: evaluated with gradients enabled" in capfd.readouterr().err


class Wide(nn.Module):
    """A network with many outputs an example, which may take no example alone, or none at all."""

    def __init__(self, form=lambda outputs: outputs, least=1):
        super().__init__()
        self.form, self.least = form, least

    def forward(self, x):
        if len(x) < self.least:
            raise ValueError("too few")
        return self.form(torch.zeros(len(x), 1 << 20))


def some_loss(outputs, targets):
    return torch.zeros(len(targets))


@pytest.mark.parametrize(
    ("network", "most", "examples"),
    [
        (Wide(), 64, 16),  # 4 MB per example, 64 MB in all
        (Wide(), 16, 16),
        (Wide(), 10, 10),
        (Wide(lambda outputs: {"a": outputs, "others": (outputs, [outputs], None)}), 64, 4),
        (Wide(least=2), 64, 16),
        (Wide(least=3), 64, 16),
        (Wide(lambda outputs: outputs.expand(100, *outputs.shape)), 64, 1),
        (nn.Linear(2, 2), 64, 64),
    ],
)
def test_as_many_examples_go_at_a_time_as_have_outputs_of_64_mb(network, most, examples):
    assert examples_that_fit(first_batch(task(some_loss), network), most) == examples


def test_without_a_first_batch_nothing_is_known_of_outputs():
    assert examples_that_fit(task(), 64) == 64


@pytest.mark.parametrize(("least", "seen"), [(1, [1, 1]), (2, [1, 1, 1, 2, 2])])
def test_a_large_network_passes_over_one_example_in_each_mode(least, seen):
    network = Counting(least)
    found = first_batch(task(), Resident(network))
    assert network.seen == seen
    assert (found.gradients, found.output_bytes) == ("inference", 8.0)
