"""Published networks on real images: how far engines are from float64, at 10 points from the centre to the corner."""

import math

import numpy as np
import pytest
import torch

from landscape_mpi.data import Normalisation, Split
from landscape_mpi.engines import build_engine
from landscape_mpi.evaluate import EagerEvaluator, Task, measure
from landscape_mpi.evaluate.losses import cross_entropy
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.networks import build_network, load_checkpoint
from support.engines import plane_of

IMAGES = 32
POINTS = [
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (0.05, 0.15, 0.35, 0.7, 1.4)
    for angle in (0.3, 3.5)
]
NETWORKS = {"resnet20": "resnet20-12fca82f.th", "resnet56": "resnet56-4bfd9763.th"}


@pytest.fixture(scope="module", params=NETWORKS)
def losses(request, shared_data):
    """Mean losses at all points, float64 [10], by float64, by the plain network and by every engine."""
    network = build_network(request.param, {"shortcut": "pad"}, shared_data)
    load_checkpoint(network, shared_data / NETWORKS[request.param])
    real = np.load(shared_data / "cifar10-train-first4k.npz")
    images, labels = (torch.from_numpy(real[name][:IMAGES]) for name in ("images", "labels"))
    splits = {"train": Split("train", images.permute(0, 3, 1, 2).contiguous(), labels.long())}
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    plane = plane_of(network.eval())

    def evaluate(engine, dtype=torch.float32):
        task = Task(splits, normalisation, cross_entropy, dtype)
        if engine == "eager":
            evaluator = EagerEvaluator(network.to(dtype), plane, task, 16)
        else:
            evaluator = build_engine(engine, network.to(dtype), plane, task, 16)
        return np.array([measure(evaluator, point, ["train"], [LOSS])["train_loss"] for point in POINTS])

    found = {engine: evaluate(engine) for engine in ("eager", "fused", "compiled")}
    return found | {"float64": evaluate("eager", torch.float64)}


@pytest.mark.slow(8)
@pytest.mark.kernel
@pytest.mark.parametrize("engine", ["fused", "compiled"])
def test_losses_are_those_of_float64(losses, engine):
    exact = losses["float64"]
    counts = exact > 1e-3
    assert counts.sum() >= 6
    ours, plain = (np.abs(losses[name] / exact - 1)[counts].max() for name in (engine, "eager"))
    assert ours < 1e-5
    assert ours < 10 * plain
