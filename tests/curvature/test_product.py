"""Hessian-vector products and extreme eigenvalues against dense Hessians of small networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from landscape_mpi.curvature import Hessian, differs, extremes, start_vector
from landscape_mpi.evaluate.losses import cross_entropy, mse
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


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_the_ends_of_dense_hessians(name, dtype, within):
    network, inputs, targets = made(name, dtype)
    ours = found(network, inputs, targets, tolerance=within / 10)
    values = np.linalg.eigvalsh(dense(network, inputs, targets).numpy())
    assert values[0] < 0 < values[-1]
    assert [ours.smallest, ours.largest] == pytest.approx([values[0], values[-1]], abs=within * np.abs(values).max())


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
