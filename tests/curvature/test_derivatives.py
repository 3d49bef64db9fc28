"""Derivatives that torch leaves out without a word are found by differences; those of sound networks all pass."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.curvature import differs, silent
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.networks import build_network

LINE = {"alpha": [-1, 1, 2]}


class Net(nn.Module):
    """Two layers, of which a subclass spoils or changes something."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def hidden(self, x):
        return torch.tanh(self.a(x))

    def forward(self, x):
        hidden = self.hidden(x)
        return self.b(hidden) + self.c(hidden)


class Reentrant(Net):
    def hidden(self, x):
        return checkpoint(super().hidden, x, use_reentrant=True)


class Recomputed(Net):
    def hidden(self, x):
        return checkpoint(super().hidden, x, use_reentrant=False)


class Detached(Net):
    """One of two ways to the same parameters is cut."""

    def forward(self, x):
        hidden = self.hidden(x)
        return self.b(hidden) + self.c(hidden.detach())


class Through(torch.autograd.Function):
    """Rounds, and lets the gradient straight through."""

    @staticmethod
    def forward(_, x):
        return (x * 4).round() / 4

    @staticmethod
    def backward(_, gradient):
        return gradient


class Rounded(Net):
    def hidden(self, x):
        return Through.apply(super().hidden(x))


class Once(torch.autograd.Function):
    """A square whose backward pass forgets that it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * gradient


class Forgetful(Net):
    def hidden(self, x):
        return Once.apply(super().hidden(x))


class Unused(Net):
    def forward(self, x):
        return self.b(self.hidden(x))


class Single(Net):
    """Goes down to float32 on the way."""

    def forward(self, x):
        return super().forward(x).float()


class Kinked(Net):
    def hidden(self, x):
        return torch.relu(self.a(x)).view(len(x), 2, 4).amax(1).repeat(1, 2)


class Physics(Net):
    """Differentiates itself by its inputs."""

    def forward(self, x):
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)[0][:, :4]


class Flat(Net):
    """Is all but independent of its parameters."""

    def forward(self, x):
        return 1e-7 * super().forward(x)


def measured(kind):
    torch.manual_seed(0)
    network, x, y = kind().double(), torch.randn(2, 6).double(), torch.tensor([0, 3])
    named = dict(network.named_parameters())
    before = {name: leaf.detach().clone() for name, leaf in named.items()}

    def loss():
        return cross_entropy(network(x), y).double().sum()

    found = silent(named, loss), differs(named, loss)
    assert all(torch.equal(leaf, before[name]) for name, leaf in named.items())
    return found


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("kind", "without", "wrong"),
    [
        (Net, [], ""),
        (Recomputed, [], ""),
        (Unused, [], ""),
        (Single, [], ""),
        (Kinked, [], ""),
        (Flat, [], ""),
        (Physics, [], ""),
        (Reentrant, ["a.weight", "a.bias"], "its gradient"),
        (Detached, [], "its gradient"),
        (Rounded, [], "its gradient"),
        (Forgetful, [], "the derivative of its gradient"),
    ],
)
def test_what_is_left_out_is_found_and_nothing_else(kind, without, wrong):
    assert measured(kind) == (without, wrong)


def test_deep_networks_with_many_kinks_pass():
    """Within a step of 1e-6 of the parameters the gradient of this one jumps by far more than it changes."""
    torch.manual_seed(0)
    network = build_network("resnet20", {}, Path()).double()
    examples, classes = torch.randn(2, 3, 32, 32).double(), torch.tensor([1, 2])
    assert not differs(dict(network.named_parameters()), lambda: cross_entropy(network(examples), classes).sum())


def sweep(network, **options):
    torch.manual_seed(1)
    data = torch.randn(30, 6), torch.randint(4, (30,))
    return landscape_mpi.sweep(network, "cross_entropy", data, grid=LINE, **options)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Reentrant, "^hessian: the parameters a.weight, a.bias get no gradient although the loss depends on them"),
        (Detached, "^hessian: the loss has another derivative than torch gives for its gradient"),
    ],
)
@pytest.mark.parametrize("asks", [{"metrics": ["loss", "hessian"]}, {"plane": {"kind": "hessian"}}])
def test_eigenvalues_of_another_function_are_refused(kind, words, asks):
    with pytest.raises(UserError, match=words):
        sweep(kind(), quiet=True, **asks)


def test_what_is_frozen_is_named(capfd):
    network = Net()
    network.a.requires_grad_(False)
    sweep(network, metrics=["loss", "hessian"])
    said = capfd.readouterr().err
    assert "hessian: the parameters a.weight, a.bias get no gradient, and the Hessian is that over the others." in said
