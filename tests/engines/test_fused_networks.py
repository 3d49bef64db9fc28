"""Networks of many kinds, fused: the losses of float64 at every point, and what could not be fused runs as it is."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape_mpi.engines import CannotFuseError, build_engine
from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.networks import build_network
from support.engines import curve_of, deviation, image_task, parameters, plane_of, settle

ENGINES = ["fused", pytest.param("compiled", marks=pytest.mark.kernel)]
POINTS = [(0.0, 0.0), (0.4, -0.3), (-1.0, 1.0)]
SINGLE = 2e-5
"""What float32 may lose over a network, for each image."""


def settled(network, size=32):
    return settle(network, torch.randn(16, 3, size, size))


class Net(nn.Module):
    """A forward pass given as a function of (self, x); the last step averages and classifies."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.way = forward
        for name, module in modules.items():
            self.add_module(name, module)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.way(self, x).mean((2, 3)))


def conv(channels_in=3, **options):
    return nn.Conv2d(channels_in, 8, 3, **{"padding": 1, **options})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shortcut", ["projection", "pad", "none"])
def test_the_zoo_is_fused_whole(engine, shortcut, tmp_path):
    network = settled(build_network("resnet20", {"shortcut": shortcut}, tmp_path))
    description, worst = deviation(network, engine, POINTS)
    assert description.startswith(f"{21 if shortcut == 'projection' else 19} fused convolutions")
    assert worst < SINGLE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_along_a_curve_it_has_the_losses_of_the_live_network(engine, kind):
    def forward(net, x):
        return functional.relu(net.norm(net.two(functional.relu(net.one(x)))))

    network = settled(Net(forward, one=conv(), two=conv(8), norm=nn.BatchNorm2d(8)), 16)
    points = [(t,) for t in (0.0, 0.3, 0.5, 0.9, 1.0)]
    description, worst = deviation(network, engine, points, image_task(size=16), plane=curve_of(network, kind))
    assert description.startswith("2 fused convolutions")
    assert worst < SINGLE


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("build", "options", "fused"),
    [
        ("vgg9", {"width": 4}, 7),
        pytest.param("densenet121", {"growth": 2}, 120, marks=pytest.mark.slow),
        pytest.param("wrn56_2", {"width": 2}, 57, marks=pytest.mark.slow),
    ],
)
def test_the_other_networks_of_the_paper_run_fused(engine, build, options, fused, tmp_path):
    """Narrow ones: the same layers in the same order."""
    network = settled(build_network(build, options, tmp_path))
    description, worst = deviation(network, engine, POINTS[:2])
    assert description.startswith(f"{fused} fused convolutions")
    assert worst < SINGLE


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_torchvisions_resnet18_runs_fused(engine, torchvision_models):
    network = settled(torchvision_models.resnet18(num_classes=10), size=64)
    description, worst = deviation(network, engine, POINTS[:2], image_task(2, 64))
    assert description.startswith("20 fused convolutions")
    assert worst < SINGLE


WAYS = {
    "no batch norm": (lambda n, x: functional.relu(n.a(x)), {"a": conv()}),
    "no bias": (lambda n, x: n.a(x), {"a": conv(bias=False)}),
    "stride and dilation": (lambda n, x: n.a(x), {"a": conv(stride=2, dilation=2)}),
    "groups": (lambda n, x: n.b(n.a(x)), {"a": conv(), "b": conv(8, groups=4)}),
    "5x5": (lambda n, x: n.a(x), {"a": nn.Conv2d(3, 8, 5)}),
    "norm without weights": (lambda n, x: n.b(n.a(x)), {"a": conv(), "b": nn.BatchNorm2d(8, affine=False)}),
    "norm that follows no convolution": (lambda n, x: n.b(n.a(x).tanh()), {"a": conv(), "b": nn.BatchNorm2d(8)}),
    "a value with two users": (lambda n, x: (y := n.a(x)) + functional.relu(n.b(y)), {"a": conv(), "b": conv(8)}),
    "in place": (
        lambda n, x: (y := n.r(n.a(x))).add(n.r(n.b(y).add_(y))),
        {"a": conv(), "b": conv(8), "r": nn.ReLU(inplace=True)},
    ),
    "sum of two chains": (lambda n, x: torch.relu(n.a(x) + n.b(x)), {"a": conv(), "b": conv()}),
    "added to itself": (lambda n, x: (y := n.a(x)) + y, {"a": conv()}),
    "a broadcast addition": (lambda n, x: n.b(n.a(x)) + n.a(x).mean((2, 3), keepdim=True), {"a": conv(), "b": conv(8)}),
    "a number added": (lambda n, x: (n.a(x) + 1.5).relu(), {"a": conv()}),
    "a layer used twice": (lambda n, x: n.b(n.b(n.a(x)).relu()), {"a": conv(), "b": conv(8)}),
    "reflected borders": (lambda n, x: n.b(n.a(x)), {"a": conv(padding_mode="reflect"), "b": conv(8)}),
    "padding by name": (lambda n, x: n.b(n.a(x)), {"a": conv(padding="same"), "b": conv(8)}),
    "max pooling between": (lambda n, x: n.b(functional.max_pool2d(n.a(x), 3, 2)), {"a": conv(), "b": conv(8)}),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", WAYS)
def test_every_way_to_write_a_forward_pass_keeps_its_losses(engine, name):
    way, modules = WAYS[name]
    description, worst = deviation(settled(Net(way, **modules), 14), engine, POINTS, image_task(5, 14))
    assert "fused convolution" in description
    assert worst < SINGLE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ignore", ["none", "biasbn", ["*.bias"]])
def test_moving_batch_norm_is_folded_too(engine, ignore):
    """Weight of norm times weight of convolution is quadratic in alpha and beta."""
    way = lambda n, x: n.d(n.c(n.b(n.a(x)).relu())).relu()  # noqa: E731
    network = settled(Net(way, a=conv(), b=nn.BatchNorm2d(8), c=conv(8), d=nn.BatchNorm2d(8)))
    description, worst = deviation(network, engine, [*POINTS, (-0.7, 0.9)], ignore=ignore)
    assert description.startswith("2 fused convolutions")
    assert worst < SINGLE


@pytest.mark.parametrize("engine", ENGINES)
def test_a_line_has_no_eta(engine):
    network = settled(Net(lambda n, x: n.a(x).relu(), a=conv()))
    task, plane = image_task(), plane_of(network, axes=1)
    ours = build_engine(engine, network, plane, task, 4)
    plain = EagerEvaluator(network, plane, task, 4)
    found, expected = (one.per_example((0.7,), "train", slice(0, 6)) for one in (ours, plain))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=SINGLE)
    np.testing.assert_array_equal(found.others["acc"], expected.others["acc"])


def test_float64_is_fused_in_float64():
    _, worst = deviation(
        settled(Net(lambda n, x: n.b(n.a(x)).relu(), a=conv(), b=nn.BatchNorm2d(8))).double(),
        "fused",
        POINTS,
        image_task(dtype=torch.float64),
    )
    assert worst < 1e-12


def test_hooks_are_called():
    network = settled(Net(lambda n, x: n.b(n.a(x)), a=conv(), b=conv(8)))
    network.a.register_forward_hook(lambda *call: call[-1] * 2)
    description, worst = deviation(network, "fused", POINTS)
    assert description.startswith("1 fused convolution ")
    assert worst < SINGLE


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = conv()

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else -self.a(x)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (Branching(), "its forward pass depends on the number of examples or on their values"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10)), "it has no convolution to fuse"),
    ],
    ids=["branching", "no convolution"],
)
def test_what_cannot_be_fused_says_why(network, why):
    with pytest.raises(CannotFuseError, match=why):
        build_engine("fused", network.eval(), plane_of(network), image_task(), 4)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_callers_network_stays_at_theta(engine, tmp_path):
    network = settled(build_network("resnet20", {"width": 8}, tmp_path))
    before = parameters(network)
    evaluator = build_engine(engine, network, plane_of(network), image_task(), 4)
    evaluator.per_example((1.0, 1.0), "train", slice(0, 4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [16, 17, 25])
def test_an_images_loss_depends_on_no_batch_beyond_rounding(engine, batch, tmp_path):
    network = settled(build_network("resnet20", {}, tmp_path))
    task, plane = image_task(42), plane_of(network)
    one, other = (build_engine(engine, network, plane, task, size) for size in (batch, 42))
    found, expected = (each.per_example((0.3, 0.1), "train", slice(0, 42)) for each in (one, other))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-6, atol=1e-5)
    assert found.losses.mean() == pytest.approx(expected.losses.mean(), rel=1e-6)
