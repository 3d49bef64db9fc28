"""What is fused and what is not: writes in place, branches, layers that are like torch's own, readers of memory."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from landscape_mpi.data import Split
from landscape_mpi.engines import CannotFuseError, build_engine
from landscape_mpi.evaluate import EagerEvaluator, Task, choose_layout
from landscape_mpi.evaluate.losses import cross_entropy
from support.engines import plane_of, settle

POINTS = [(0.0, 0.0), (0.9, -0.6), (-1.0, 1.0)]
IMAGES = 9


class Net(nn.Module):
    """A forward pass given as a function of (self, x)."""

    def __init__(self, way, **modules):
        super().__init__()
        self.way = way
        for name, module in modules.items():
            self.add_module(name, module)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.way(self, x).mean((2, 3)))


def conv(channels=8, size=3, **options):
    return nn.Conv2d(channels, 8, size, **{"padding": size // 2, **options})


def images_task(channels=3):
    inputs = torch.randn(IMAGES, channels, 10, 10, generator=torch.Generator().manual_seed(2))
    return Task({"train": Split("train", inputs, torch.arange(IMAGES) % 10)}, None, cross_entropy)


def compare(network, engine="fused", task=None, ignore="none", batch=6):
    """The engine's description, after each image's loss was seen to be the plain network's at every point."""
    task, plane = task or images_task(), plane_of(network, ignore)
    ours = build_engine(engine, network, plane, task, batch)
    plain = EagerEvaluator(network, plane, Task(**{**vars(task), "layout": torch.contiguous_format}), batch)
    for point in POINTS:
        found, expected = (one.per_example(point, "train", slice(0, IMAGES)) for one in (ours, plain))
        np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-5, atol=1e-6)
    return ours.description


def shortcut_before_relu(n, x):
    x = n.a(x)
    skip = n.b(x)
    return skip + n.c(functional.relu_(x))


def through_a_view(n, x):
    x = n.a(x)
    flat = x.flatten(1)
    y = n.b(x)
    flat.mul_(0.5)
    return y + n.c(x)


def sum_into_the_shortcut(n, x):
    x = n.a(x)
    x.add_(n.b(x))
    return x * n.c(x)


def sum_into_a_view_of_the_shortcut(n, x):
    x = n.a(x)
    seen = x[:, :4]
    y = functional.relu_(x.add_(n.b(x)))
    return y + seen.repeat(1, 2, 1, 1)


def shortcut_after_the_sum(n, x):
    x = n.a(x)
    y = n.b(x) + x
    x.mul_(2)
    return functional.relu(y) + x


def setitem(n, x):
    x = n.a(x)
    y = n.b(x)
    x[:, 0] = 0
    return functional.relu(y + x)


IN_PLACE = [
    shortcut_before_relu,
    through_a_view,
    sum_into_the_shortcut,
    sum_into_a_view_of_the_shortcut,
    shortcut_after_the_sum,
    setitem,
]


@pytest.mark.parametrize("way", IN_PLACE, ids=lambda way: way.__name__)
def test_what_is_written_in_place_between_the_ends_of_a_chain_is_seen(way):
    network = Net(way, a=conv(3), b=conv(size=1), c=conv()).eval()
    assert "fused convolution" in compare(network)


def test_a_write_that_changes_nothing_of_the_sample_is_a_write():
    """Where all is above 0 the ReLU writes what is there; on the plane it does not."""

    def way(n, x):
        x = n.norm(x)
        skip = n.b(x)
        return skip + n.c(functional.relu_(x))

    network = Net(way, norm=nn.BatchNorm2d(3), b=conv(3, size=1), c=conv(3)).eval()
    inputs = torch.rand(IMAGES, 3, 10, 10)
    task = Task({"train": Split("train", inputs, torch.arange(IMAGES) % 10)}, None, cross_entropy)
    plane = plane_of(network)
    plane.directions[0]["norm.bias"].fill_(-0.5)
    ours, plain = build_engine("fused", network, plane, task, 6), EagerEvaluator(network, plane, task, 6)
    found, expected = (one.per_example((1.0, 0.0), "train", slice(0, IMAGES)) for one in (ours, plain))
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-5)


class Norm(nn.BatchNorm2d):
    """A subclass that changes nothing."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)


class Halved(nn.BatchNorm2d):
    """A subclass with a forward pass of its own."""

    def forward(self, x):
        return super().forward(x) / 2


class Wrapped(nn.Conv2d):
    """A subclass that pads by itself."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(functional.pad(x, (1, 1, 1, 1), "circular"), weight, bias)[..., 1:-1, 1:-1]


class Optional(Net):
    """A forward pass with arguments that nobody gives."""

    def forward(self, x, labels=None, *, scale=2.0, flags=()):
        logits = super().forward(x) * scale
        return logits if labels is None and not flags else logits.softmax(1)


def on_shapes(n, x):
    _, channels, height, width = x.shape
    if channels != 3 or x.dim() != 4 or len(x.shape) != 4:
        raise ValueError("images")
    x = n.a(x)
    if height % 4 or width % 4:
        x = functional.pad(x, (0, -width % 4, 0, -height % 4))
    for _ in range(x.size(2) // 8):
        x = n.b(x).relu()
    return x if x.shape[-1] == 1 else functional.avg_pool2d(x, int(x.shape[-1] ** 0.5))


def with_buffer(network):
    weight = network.a.weight.detach().clone()
    del network.a.weight
    network.a.register_buffer("weight", weight)
    return network


def patched(network):
    network.a.forward = lambda x: functional.conv2d(x, network.a.weight, padding=1).tanh()
    return network


def two(**modules):
    return {"a": conv(3), "b": conv(), **modules}


CHAIN = lambda n, x: functional.relu(n.norm(n.b(n.a(x))))  # noqa: E731
NAMED = lambda n, x: n.fused_1(n.fused_0(x))  # noqa: E731
KINDS = {
    "optional arguments": (Optional(CHAIN, **two(norm=nn.BatchNorm2d(8))), 2),
    "branches on shapes": (Net(on_shapes, **two()), 2),
    "a subclass of batch norm": (Net(CHAIN, **two(norm=Norm(8))), 2),
    "batch norm of its own": (Net(CHAIN, **two(norm=Halved(8))), 2),
    "a convolution of its own": (Net(CHAIN, **two(a=Wrapped(3, 8, 3, padding=1), norm=nn.BatchNorm2d(8))), 1),
    "a patched convolution": (patched(Net(CHAIN, **two(norm=nn.BatchNorm2d(8)))), 1),
    "padding by name": (Net(CHAIN, **two(a=conv(3, padding="same"), norm=nn.BatchNorm2d(8))), 2),
    "uneven padding": (Net(CHAIN, **two(a=conv(3, size=4, padding="same"), norm=nn.BatchNorm2d(8))), 1),
    "weights in a buffer": (with_buffer(Net(CHAIN, **two(norm=nn.BatchNorm2d(8)))), 2),
    "names of ours": (Net(NAMED, fused_0=conv(3), fused_1=conv()), 2),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_computes_as_torchs_own_layers_is_fused(name):
    network, fused = KINDS[name]
    settle(network, torch.randn(16, 3, 10, 10))
    assert compare(network).startswith(f"{fused} fused convolution")


def test_another_branch_off_the_centre_is_the_plain_networks():
    network = Net(lambda n, x: n.a(x) if n.a.weight.sum() > 0 else n.a(x) * 2, a=conv(3)).eval()
    network.a.weight.data.abs_()
    plane = plane_of(network)
    plane.directions[0]["a.weight"].copy_(-2 * network.a.weight.detach())
    task = images_task()
    ours, plain = build_engine("fused", network, plane, task, 6), EagerEvaluator(network, plane, task, 6)
    for point in ((1.0, 0.0), (0.0, 0.0)):
        found, expected = (one.per_example(point, "train", slice(0, IMAGES)) for one in (ours, plain))
        np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-5)


@pytest.mark.parametrize("first", [torch.abs, torch.abs_], ids=["", "after a write into the images"])
def test_a_branch_on_the_number_of_images_is_taken_by_each_batch(first):
    network = Net(lambda n, x: n.a(y) if (y := first(x).sub(0.2)).shape[0] != 4 else n.a(y) * 2, a=conv(3)).eval()
    for batch in (3, 4, 9):
        assert "fused" in compare(network, batch=batch)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        (
            lambda n, x: n.a(x) * sum(tensor.sum() for tensor in n._modules["b"]._parameters.values()),
            "where tracing does not see",
        ),
        (lambda n, x: n.a(x).data.mul_(2), "takes hold of memory by data"),
        (lambda n, x: torch.stack([n.a(x)[number] for number in range(x.shape[0])]), "number of examples"),
    ],
)
def test_what_no_graph_would_repeat_is_refused(way, why):
    network = Net(way, **two()).eval()
    with pytest.raises(CannotFuseError, match=why):
        build_engine("fused", network, plane_of(network), images_task(), 4)


def windows(n, x):
    x = n.a(x)
    count, channels, height, width = x.shape
    steps = (channels * height * width, height * width, 5 * width, 5, width, 1)
    return n.b(x) + x.as_strided((count, channels, 2, 2, 5, 5), steps).amax((2, 3)).repeat(1, 1, 2, 2)


def viewed(n, x):
    x = n.a(x)
    return n.b(x.view(x.size(0), -1).view(-1, 8, 10, 10))


def written_flat(n, x):
    x = n.a(x)
    flat = x.flatten(1)
    flat.sub_(0.01)
    return n.b(x)


@pytest.mark.parametrize("way", [windows, viewed, written_flat], ids=lambda way: way.__name__)
def test_a_network_that_reads_how_tensors_lie_is_fused_and_laid_out_as_it_expects(way):
    network, task = Net(way, **two()).eval(), images_task()
    assert choose_layout(network, task) == torch.contiguous_format
    assert "2 fused convolutions" in compare(network)


def test_other_networks_lie_channels_last():
    assert choose_layout(Net(CHAIN, **two(norm=nn.BatchNorm2d(8))).eval(), images_task()) == torch.channels_last
