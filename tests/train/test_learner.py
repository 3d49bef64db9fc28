"""Learning: the updates of the textbook, every example once per epoch, learning rates and augmentation of the paper."""

import math
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.functional import pad
from training import lesson, run, small_network, squares

from landscape_mpi.data import Split
from landscape_mpi.errors import UserError
from landscape_mpi.job import Train
from landscape_mpi.train import initialise
from landscape_mpi.train.learner import augment, learning_rate


def linear(n=6):
    """A linear regression of which everything is known: loss |x w - y|^2, gradient 2 x^T (x w - y) / n."""
    random = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(n, k, generator=random, dtype=torch.float64) for k in (4, 2))
    network = initialise(lambda: nn.Linear(4, 2, bias=False).double(), 0)
    start = network.weight.detach().clone()
    gradient = 2 * ((inputs @ start.T) - targets).T @ inputs / n
    return network, Split("train", inputs, targets), start, gradient


@pytest.mark.parametrize(("momentum", "nesterov", "factor"), [(0.0, False, 1), (0.9, False, 1), (0.9, True, 1.9)])
def test_a_step_of_sgd_is_that_of_the_textbook(tmp_path, momentum, nesterov, factor):
    network, split, start, gradient = linear()
    changes = {"epochs": 1, "momentum": momentum, "nesterov": nesterov, "weight_decay": 0.01}
    _, records, _ = run(tmp_path, network, split, loss=squares, **changes)
    torch.testing.assert_close(network.weight.detach(), start - 0.05 * factor * (gradient + 0.01 * start))
    expected = (split.inputs @ start.T - split.targets).square().sum(1).mean().item()
    assert records[1].train_loss == pytest.approx(expected, rel=1e-12)
    assert math.isnan(records[1].train_acc)


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate(tmp_path):
    network, split, start, gradient = linear()
    run(tmp_path, network, split, loss=squares, epochs=1, optimizer="adam", lr=0.001)
    torch.testing.assert_close(network.weight.detach(), start - 0.001 * gradient.sign(), rtol=1e-6, atol=1e-9)


def test_every_example_is_seen_once_an_epoch_and_in_another_order(tmp_path):
    seen = []

    def loss(outputs, targets):
        if outputs.requires_grad:
            seen.append(targets.flatten().tolist())
        return squares(outputs, targets)

    split = Split("train", torch.ones(20, 1), torch.arange(20.0)[:, None])
    run(tmp_path, nn.Linear(1, 1), split, loss=loss, lr=1e-6)
    assert [len(step) for step in seen] == [8, 8, 4] * 2
    epochs = [list(chain(*seen[start : start + 3])) for start in (0, 3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1] != list(range(20))


@pytest.mark.parametrize(
    ("examples_", "batch", "sizes"), [(17, 8, [8, 8]), (18, 8, [8, 8, 2]), (1, 8, [1]), (2, 1, [1, 1])]
)
def test_a_remainder_of_one_sits_the_epoch_out(tmp_path, examples_, batch, sizes):
    seen = []

    def loss(outputs, targets):
        if outputs.requires_grad:
            seen.append(len(targets))
        return squares(outputs, targets)

    split = Split("train", torch.ones(examples_, 1), torch.ones(examples_, 1))
    run(tmp_path, nn.Linear(1, 1), split, loss=loss, epochs=1, batch=batch)
    assert seen == sizes


def test_the_learning_rate_drops_after_the_epochs_of_the_paper():
    paper = Train(output="unused")
    rates = [learning_rate(paper, epoch) for epoch in (1, 150, 151, 225, 226, 275, 276, 300)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": functional.cross_entropy}, r"loss: it returned the shape \[\] for 20 examples; expected one loss"),
        ({"lr": 1e30, "epochs": 3}, r"train\.lr: with 1e\+30 the loss became (nan|inf) in epoch \d"),
        ({"nesterov": True}, r"train\.nesterov: found true with momentum 0"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path / "new", **changes)


class Keeping(nn.Linear):
    """Keeps what it computed of its first inputs, as caches of positions do."""

    kept = None

    def forward(self, x):
        if self.kept is None:
            self.kept = torch.cos(torch.arange(4)).to(x)
        return super().forward(x * self.kept)


class Slope(nn.Sequential):
    """The derivative of a network by its inputs."""

    def forward(self, x):
        x = x.requires_grad_(True)
        return torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)[0]


@pytest.mark.parametrize(
    "network", [Keeping(4, 4).double(), Slope(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()]
)
def test_networks_that_keep_tensors_or_take_gradients_learn(network):
    split = Split("train", torch.randn(12, 4).double(), torch.randn(12, 4).double())
    learner = lesson(network, split, loss=squares).learner
    learner.rehearse()
    before = learner.evaluate("train").loss
    for epoch in range(1, 9):
        learner.learn(epoch)
    assert learner.evaluate("train").loss < before


class Viewed(nn.Module):
    """A convolution whose output is viewed as rows, as the networks of many tutorials do."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.linear(x.view(len(x), -1))


def in_space():
    """A convolution of three dimensions, for which there is no layout of four."""
    return nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 2, (2, 3, 3)), nn.Flatten(), nn.Linear(144, 3))


@pytest.mark.parametrize(
    ("build", "layout"),
    [(small_network, torch.channels_last), (Viewed, torch.contiguous_format), (in_space, torch.contiguous_format)],
)
def test_weights_are_channels_last_where_the_network_allows_it(build, layout):
    learner = lesson(initialise(build, 0)).learner
    learner.rehearse()
    assert all(
        weight.is_contiguous(memory_format=layout) for weight in learner.network.parameters() if weight.dim() == 4
    )
    assert math.isfinite(learner.learn(1).loss)


def test_nan_outputs_count_as_wrong_as_they_do_in_a_sweep(tmp_path):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            outputs = torch.cat([x * 0 + 1, x * 0, torch.where(x > 0, math.nan, 0.0)], 1)
            return outputs + self.weight

    def loss(outputs, targets):
        return outputs[:, 0]

    split = Split("train", torch.tensor([[-1.0], [-1.0], [-1.0], [1.0]]), torch.zeros(4, dtype=torch.int64))
    _, records, _ = run(tmp_path, Broken(), split, loss=loss, epochs=1, lr=1e-6)
    assert records[1].train_acc == records[1].train_eval_acc == 75.0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def crops(image, padding):
    """Every crop of the padded image, then their mirror images: [2 (2 padding + 1)^2, channels, height, width]."""
    height, width = image.shape[1:]
    windows = pad(image, (padding,) * 4).unfold(1, height, 1).unfold(2, width, 1)
    plain = windows.permute(1, 2, 0, 3, 4).flatten(0, 1)
    return torch.cat([plain, plain.flip(-1)])


@pytest.mark.slow
@given(st.integers(0, 2**32), st.integers(0, 4), st.sampled_from([torch.uint8, torch.float32]))
def test_every_image_becomes_one_of_its_own_crops(seed, padding, dtype):
    images = torch.randint(1, 256, (5, 3, 6, 8), generator=generator(seed)).to(dtype)
    found = augment(images, generator(seed), padding)
    assert (found.shape, found.dtype) == (images.shape, dtype)
    for image, changed in zip(images, found, strict=True):
        assert (crops(image, padding) == changed).flatten(1).all(1).any()


@pytest.mark.slow
def test_every_shift_and_flip_occurs_equally_often():
    image = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8)
    found = augment(image.expand(16_200, 1, 8, 8), generator())
    which = (crops(image[0], 4)[None] == found[:, None]).flatten(2).all(2).int().argmax(1)
    counts = which.bincount(minlength=162)
    assert counts.min() > 50
    assert counts.max() < 160


def test_the_same_generator_draws_the_same():
    images = torch.rand(20, 3, 32, 32)
    assert torch.equal(augment(images, generator(1)), augment(images, generator(1)))
    assert not torch.equal(augment(images, generator(1)), augment(images, generator(2)))


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match=r"train\.augment: the inputs have shape \[5, 4\].*`augment: false`"):
        augment(torch.rand(5, 4), generator())
