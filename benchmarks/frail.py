"""A user's network, data and loss, small enough for a sweep to take seconds; `faults.py` puts it beside its jobs."""

import os
import time

import torch
from torch import Tensor, nn

IMAGES = 2000


def network() -> nn.Module:
    """Return two layers on four inputs and three classes."""
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def data(_: object, split: str) -> tuple[Tensor, Tensor]:
    """Return Gaussian inputs, and the largest of three sums as the class."""
    generator = torch.Generator().manual_seed({"train": 1, "test": 2}[split])
    inputs = torch.randn(IMAGES, 4, generator=generator)
    return inputs, inputs[:, :3].cumsum(1).argmax(1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross entropy after FRAIL_SLEEP seconds."""
    time.sleep(float(os.environ.get("FRAIL_SLEEP", "0")))
    return nn.functional.cross_entropy(outputs, targets, reduction="none")
