"""Fused layers under autocast: the same rounding as the plain network's to within its own size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from landscape_mpi.engines import CannotFuseError, build_engine
from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.networks import build_network
from support.engines import image_task, plane_of, settle

ALL = slice(0, 32)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    network = build_network("resnet20", {"width": 4}, None)
    return settle(network, torch.randn(32, 3, 32, 32))


@pytest.fixture(scope="module")
def tasks():
    task = image_task(32)
    return task, replace(task, autocast=torch.bfloat16)


@pytest.mark.slow
@pytest.mark.parametrize("point", [(0.0, 0.0), (0.6, -0.3)])
def test_fused_layers_follow_autocast_and_the_point(resnet, tasks, point):
    plane = plane_of(resnet)
    exact = EagerEvaluator(resnet, plane, tasks[0], 16).per_example(point, "train", ALL).losses
    eager = EagerEvaluator(resnet, plane, tasks[1], 16).per_example(point, "train", ALL).losses
    fused = build_engine("fused", resnet, plane, tasks[1], 16)
    fused.per_example((-1.0, 1.0), "train", ALL)
    ours = fused.per_example(point, "train", ALL).losses
    for low in (eager, ours):
        assert 1e-4 < np.abs(low - exact).max() / exact.max() < 0.02
        assert abs(low.mean() / exact.mean() - 1) < 0.02
    assert "plain" in fused.description


def test_losses_are_taken_in_float64_from_float32_outputs(resnet, tasks):
    seen = []

    def loss(outputs, targets):
        seen.append(outputs.dtype)
        return outputs.double().square().mean(1)

    found = replace(tasks[1], loss=loss).evaluate(resnet, "train", ALL, 16)
    assert (set(seen), found.losses.dtype) == ({torch.float32}, np.float64)


def test_an_engine_of_float32_alone_says_so(resnet, tasks):
    with pytest.raises(CannotFuseError, match="its layers compute in float32 alone"):
        build_engine("compiled", resnet, plane_of(resnet), tasks[1], 16)
