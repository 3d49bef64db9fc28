"""Which axes share a permutation: any permutation of what is found leaves the function as it is, to rounding."""

from contextlib import suppress

import pytest
import torch
from shuffling import IMAGES, found, shuffled, sizes, wild
from torch import nn
from torch.nn import functional

from landscape_mpi.align import UnknownStructureError, structure_of
from landscape_mpi.align.axes import Chain, Equations, Fixed, groups, size
from landscape_mpi.networks.state import load
from landscape_mpi.networks.zoo import ZOO
from support import tiny
from support.random_networks import random_network


def check_same_function(network, inputs):
    """Permute all that may be permuted and compare the outputs; return the structure."""
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    structure = found(network, inputs.clone())
    one, before, after = shuffled(network, structure)
    assert one.moved or not structure.groups
    with torch.no_grad():
        expected = network(inputs.clone())
        load(network, after)
        torch.testing.assert_close(network(inputs.clone()), expected, rtol=1e-9, atol=1e-9, equal_nan=True)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed or not structure.groups
    return structure


@pytest.mark.parametrize(
    ("build", "options", "expected"),
    [
        # two groups a block, but the residual stream of a stage is one
        ("resnet20", {"width": 4}, [4] * 4 + [8] * 4 + [16] * 4),
        # option A: what is padded around the channels of the stage before moves within itself
        ("resnet20", {"width": 4, "shortcut": "pad"}, [2, 2, 4, 4] + [4] * 4 + [8] * 3 + [16] * 3),
        ("resnet20", {"width": 4, "shortcut": "none"}, [4] * 7 + [8] * 6 + [16] * 6),
        ("resnet56", {"width": 2}, [2] * 10 + [4] * 10 + [8] * 10),
        ("vgg9", {"width": 2}, [2, 2, 4, 4, 8, 8, 8, 8]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_papers_networks(build, options, expected):
    assert sizes(check_same_function(wild(ZOO[build](**options)), IMAGES)) == sorted(expected)


def test_a_perceptron_has_a_group_a_hidden_layer():
    layers = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)
    structure = check_same_function(wild(nn.Sequential(*layers)), torch.randn(2, 4))
    assert sizes(structure) == [6, 8]
    hidden = next(groups(structure.axes["0.weight"][0]))
    for name in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"):
        assert structure.axes[name] == ((hidden,),)
    assert structure.axes["3.weight"][1] == (hidden,)
    assert structure.axes["0.weight"][1] == (Fixed(4),)


class Parts(nn.Module):
    """Joins, gates and groups channels."""

    def __init__(self):
        super().__init__()
        self.first, self.narrow = nn.Conv2d(3, 12, 3, bias=False), nn.Conv2d(3, 4, 3)
        self.norm, self.deep = nn.GroupNorm(2, 12), nn.Conv2d(16, 16, 3, groups=16)
        self.mix, self.grouped, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(8, 24, 1, groups=8), nn.Linear(24 * 9, 5)

    def forward(self, x):
        joined = self.deep(torch.cat((self.norm(self.first(x)), self.narrow(x)), 1)).relu_()
        gated = functional.glu(self.mix(joined), 1)
        return self.last(functional.adaptive_avg_pool2d(self.grouped(gated), 3).flatten(1))


def test_parts_of_channels_are_permuted_within_themselves():
    """Two groups of six channels, four beside them, and eight that are gated by eight others."""
    assert sizes(check_same_function(wild(Parts()), torch.randn(2, 3, 9, 9))) == [2, 4, 6, 8]


def test_transposed_convolutions():
    """Channels between layers are a group of axes; of a grouped layer only whole groups are permuted."""
    plain = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3)
    assert sizes(check_same_function(wild(nn.Sequential(*plain)), torch.randn(2, 3, 7, 7))) == [5, 6]
    grouped = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 3)
    assert sizes(check_same_function(wild(nn.Sequential(*grouped)), torch.randn(2, 3, 7, 7))) == [2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(8))
def test_random_networks(seed):
    """Of some nothing can be permuted, and some do what is not understood: they are refused, never wrong."""
    made = random_network(seed)
    with suppress(UnknownStructureError):
        check_same_function(made.network.double(), made.inputs)


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1).values


def test_what_is_not_understood_is_named_with_its_module():
    network = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), Sorts()), nn.Linear(8, 3))
    with pytest.raises(UnknownStructureError, match=r"`1\.1` \(Sorts\) calls sort"):
        found(network.eval(), torch.randn(2, 4))


class Order(nn.Module):
    """Looks at one of its hidden units in particular."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8), nn.Linear(8, 3)
        self.unused = nn.Linear(5, 5)
        self.register_buffer("mask", torch.arange(8.0))

    def forward(self, x):
        return self.outer(self.inner(x) * self.mask)


def test_units_that_something_tells_apart_stay_as_do_tensors_that_nothing_uses():
    assert found(Order().eval(), torch.randn(2, 4)).groups == []


def test_a_network_whose_returns_cannot_be_looked_into_is_refused():
    with pytest.raises(UnknownStructureError, match="it returns a set"):
        structure_of(tiny.network().eval(), lambda module, given: {module(given)}, torch.randn(2, 4), frozenset())


def test_an_axis_that_is_cut_in_two_ways():
    """A chain of 2 and 4 against one of 3 and 3: groups of 2, 1 and 3, of which the single one stays."""
    known = Equations()
    one, other = known.fresh(6), known.fresh(6)
    known.cut(one, (2, 4))
    known.cut(other, (3, 3))
    known.unify(one, other)
    assert known.resolve(one) == known.resolve(other)
    (chain,) = known.resolve(one)
    assert isinstance(chain, Chain)
    assert [size(part) for part in chain.parts] == [2, 1, 3]


def test_a_product_that_does_not_fit_stays():
    known = Equations()
    axis = known.fresh(6)
    known.split(axis, (2, 3))
    known.split(axis, (3, 2))
    assert known.resolve(axis) == (Fixed(6),)
