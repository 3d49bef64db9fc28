"""Hessian-vector products against dense Hessians of small networks; wrong derivatives are found by differences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.curvature import Hessian, differs, extremes, silent, start_vector
from landscape_mpi.evaluate.losses import cross_entropy, mse
from landscape_mpi.networks import build_network
from support import tiny

EXAMPLES = 24
STEP = 1e-5


class Attention(nn.Module):
    """One head of attention over four tokens; its fast ways have no second derivative."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(2, 6), nn.Linear(8, 3)

    def forward(self, x):
        query, key, value = self.mix(x.view(len(x), 1, 4, 2)).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(query, key, value).flatten(1))


class Transformer(nn.Module):
    """A layer of torch's own, over two tokens of which the second sees the first; it has fast ways in eval mode."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.TransformerEncoderLayer(4, 2, 4, 0.0, "gelu", batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(2, dtype=x.dtype)
        return self.out(self.layer(x.view(len(x), 2, 4), src_mask=mask, is_causal=True).flatten(1))


class Tied(nn.Module):
    """A matrix that is used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def convolutions():
    network = nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        *(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)),
        *(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)),
    )
    with torch.no_grad():
        network.train()(torch.randn(64, 8))  # running statistics that are not those of a fresh network
    return network


NETWORKS = {
    "perceptron": lambda: nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)),
    "convolutions": convolutions,
    "attention": Attention,
    "transformer": Transformer,
    "tied": Tied,
}


def made(name, dtype=torch.float64):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval().to(dtype)
    return network, torch.randn(EXAMPLES, 8, dtype=dtype), torch.arange(EXAMPLES) % 3


def dense(network, inputs, targets, loss=cross_entropy):
    """The Hessian of the mean loss, by torch's own dense way, float64 [n, n]."""
    network, inputs = network.double(), inputs.double()
    names, leaves = zip(*network.named_parameters(), strict=True)
    sizes = [leaf.numel() for leaf in leaves]

    def mean(flat):
        parts = [part.view_as(leaf) for part, leaf in zip(flat.split(sizes), leaves, strict=True)]
        return loss(functional_call(network, dict(zip(names, parts, strict=True)), (inputs,)), targets).mean()

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.autograd.functional.hessian(mean, torch.cat([leaf.detach().flatten() for leaf in leaves]))


def found(network, inputs, targets, batch=EXAMPLES, tolerance=1e-8, loss=cross_entropy):
    hessian = Hessian(
        list(network.parameters()), lambda examples: loss(network(inputs[examples]), targets[examples]).double().sum()
    )
    cuts = [slice(first, first + batch) for first in range(0, len(inputs), batch)]
    start = start_vector(hessian.size, torch.device("cpu"))
    return extremes(lambda v: hessian.times(v, cuts) / len(inputs), start, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_the_ends_of_dense_hessians(name, dtype, within):
    network, inputs, targets = made(name, dtype)
    ours = found(network, inputs, targets, tolerance=within / 10)
    values = np.linalg.eigvalsh(dense(network, inputs, targets).numpy())
    assert values[0] < 0 < values[-1]
    assert [ours.smallest, ours.largest] == pytest.approx([values[0], values[-1]], abs=within * np.abs(values).max())


@pytest.mark.slow
def test_products_are_those_of_the_dense_hessian():
    network, inputs, targets = made("convolutions")
    hessian = Hessian(
        list(network.parameters()), lambda examples: cross_entropy(network(inputs[examples]), targets[examples]).sum()
    )
    vector = torch.randn(hessian.size, dtype=torch.float64)
    ours = hessian.times(vector, [slice(0, 10), slice(10, EXAMPLES)]) / EXAMPLES
    torch.testing.assert_close(ours, dense(network, inputs, targets) @ vector, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_it_is_the_hessian_of_the_mean_whatever_the_number_of_batches():
    network, inputs, targets = made("convolutions", torch.float32)
    whole = found(network, inputs, targets, tolerance=1e-6)
    for batch in (3, 8):
        cut = found(network, inputs, targets, batch, tolerance=1e-6)
        assert [cut.smallest, cut.largest] == pytest.approx([whole.smallest, whole.largest], rel=1e-5)
    twice = found(network, inputs.repeat(2, 1), targets.repeat(2), tolerance=1e-6)
    assert [twice.smallest, twice.largest] == pytest.approx([whole.smallest, whole.largest], rel=1e-5)


def test_running_statistics_stay_as_they_are():
    network, inputs, targets = made("convolutions")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found(network, inputs, targets)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_quadratic_has_the_spectrum_of_its_inputs():
    inputs = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    network = nn.Linear(4, 1, bias=False).double()
    ours = found(network, inputs, torch.zeros(4, 1, dtype=torch.float64), loss=mse)
    assert [ours.smallest, ours.largest] == pytest.approx([2 * 1 / 4, 2 * 16 / 4])  # 2 x x' / n


def test_a_saddle():
    network = nn.Linear(2, 2, bias=False).double()
    ours = found(network, torch.eye(2, dtype=torch.float64), torch.zeros(2), loss=saddle)
    assert [ours.smallest, ours.largest] == pytest.approx([-3, 5])


def saddle(outputs, targets):
    """Losses whose mean is 5/2 a^2 - 3/2 b^2 + ... in the entries of the matrix."""
    curvatures = torch.tensor([[5.0, -3.0], [1.0, 0.5]], dtype=torch.float64)
    return (curvatures * outputs.square()).sum(1)


def test_a_loss_that_is_linear_in_the_parameters_has_no_curvature():
    network, inputs, targets = nn.Linear(8, 3).double(), torch.randn(EXAMPLES, 8).double(), torch.zeros(EXAMPLES)
    ours = found(network, inputs, targets, loss=lambda outputs, _: outputs.sum(1))
    assert (ours.smallest, ours.largest, ours.residual, ours.converged) == (0, 0, 0, True)


def test_parameters_that_the_loss_does_not_depend_on_are_flat_directions():
    network = nn.Linear(2, 2).double()  # two biases that the loss takes no notice of

    def without_bias(outputs, targets):
        return network.weight.square().sum(1)

    ours = found(network, torch.eye(2).double(), torch.zeros(2), loss=without_bias)
    assert [ours.smallest, ours.largest] == pytest.approx([0, 1])


def by_hooks(layer):
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, by_hooks], ids=["parametrization", "hooks"])
@pytest.mark.parametrize("convolved", [False, True])
def test_weight_norm_has_its_own_second_derivative(norm, convolved):
    torch.manual_seed(0)
    layers = [nn.Unflatten(1, (1, 4)), norm(nn.Conv1d(1, 4, 3)), nn.Flatten()] if convolved else [norm(nn.Linear(4, 8))]
    network = nn.Sequential(*layers, nn.Tanh(), nn.Linear(8, 3)).double()
    inputs, targets = tiny.data(None, "train")
    leaves = list(network.parameters())

    def loss():
        return nn.functional.cross_entropy(network(inputs.double()), targets, reduction="sum")

    direction = torch.randn(sum(leaf.numel() for leaf in leaves), dtype=torch.float64)
    product = Hessian(leaves, lambda _: loss()).times(direction, [slice(0, 40)])
    ends = []
    for sign in (STEP, -STEP):
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(leaves) + sign * direction, leaves)
        ends.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss(), leaves)]))
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(leaves) - sign * direction, leaves)
    torch.testing.assert_close(product, (ends[0] - ends[1]) / (2 * STEP), rtol=1e-5, atol=1e-6)
    assert differs(dict(network.named_parameters()), lambda: loss() / 40) == ""


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_frozen_is_named(capfd):
    network = Net()
    network.a.requires_grad_(False)
    sweep(network, metrics=["loss", "hessian"])
    said = capfd.readouterr().err
    assert "hessian: the parameters a.weight, a.bias get no gradient, and the Hessian is that over the others." in said
