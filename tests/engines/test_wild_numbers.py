"""Beyond the largest float32: NaN and inf stand where the plain network has them, image by image."""

import numpy as np
import pytest
import torch
from torch import nn

from landscape_mpi.data import Split
from landscape_mpi.engines import build_engine
from landscape_mpi.evaluate import EagerEvaluator, Task
from landscape_mpi.evaluate.losses import cross_entropy
from support.engines import plane_of

ENGINES = ["fused", pytest.param("compiled", marks=pytest.mark.kernel)]
LARGE = [1.0, 1e10, 1e30, 3e35, 1e36, 3e36, 1e37, 3e37, 1e38, 3e38]
"""What the images are multiplied by; the first ones stay within float32 all the way, the last ones do not."""


def overflowing(channels):
    """Eight convolutions without norm; their sums pass the largest float32 sooner or later."""
    layers = [layer for _ in range(8) for layer in (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return network.eval()


def task_of(channels, images=40):
    scale = torch.tensor(LARGE).repeat(images // len(LARGE)).view(-1, 1, 1, 1)
    inputs = torch.randn(images, channels, 8, 8) * scale
    return Task({"train": Split("train", inputs, torch.arange(images) % 10)}, None, cross_entropy)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("channels", [6, 16, pytest.param(128, marks=pytest.mark.slow)])
def test_what_is_not_finite_is_what_the_plain_network_gives(engine, channels):
    network, task = overflowing(channels), task_of(channels)
    plane = plane_of(network)
    ours, plain = build_engine(engine, network, plane, task, 16), EagerEvaluator(network, plane, task, 16)
    for point in ((0.0, 0.0), (1.0, -1.0)):
        for images in (slice(0, 40), np.arange(39, 0, -2)):
            found, expected = (one.per_example(point, "train", images) for one in (ours, plain))
            finite = np.isfinite(expected.losses)
            assert 0 < finite.sum() < finite.size
            np.testing.assert_array_equal(found.losses[~finite], expected.losses[~finite])
            np.testing.assert_allclose(found.losses[finite], expected.losses[finite], rtol=1e-3)
            np.testing.assert_array_equal(found.others["acc"][~finite], expected.others["acc"][~finite])
