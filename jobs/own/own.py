"""A network, data and a loss of one's own: what `package.module:callable` in a job may be."""

import math

import torch
from torch import Tensor, nn


def network(hidden: int = 32) -> nn.Module:
    """Return a network that fits a curve; a job's `model.options` are the arguments."""
    return nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))


def data(root: str | None, split: str, examples: int = 512) -> tuple[Tensor, Tensor]:  # noqa: ARG001 - nothing on disk
    """Return inputs [n, 1] and targets [n, 1]; `root` and `split` come from the job, the rest from `data.options`."""
    generator = torch.Generator().manual_seed({"train": 0, "test": 1}[split])
    x = 2 * torch.rand(examples, 1, generator=generator) - 1
    noise = 0.05 * torch.randn(examples, 1, generator=generator)
    return x, torch.sin(2 * math.pi * x) + noise


def huber(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one loss per example, [n]."""
    return nn.functional.huber_loss(outputs, targets, reduction="none").mean(dim=1)
