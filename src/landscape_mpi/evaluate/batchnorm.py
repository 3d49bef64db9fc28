"""Running statistics of batch norm: which buffers they are, and their estimate from examples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

EXAMPLES, BATCH = 1000, 100
"""Training examples from which statistics are estimated anew, and how many go through the network at once.

An average over batches depends on how they are cut, so that this is no choice of a job or of a machine.
"""
_MEAN, _VARIANCE = "running_mean", "running_var"


def statistics_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of `running_mean` and `running_var` of every batch norm that has them, by name, on the CPU."""
    found = {}
    for name, norm in _norms(network).items():
        for buffer in (_MEAN, _VARIANCE):
            found[f"{name}.{buffer}".lstrip(".")] = getattr(norm, buffer).detach().cpu().clone()
    return found


def set_statistics(network: nn.Module, values: Mapping[str, Tensor]) -> int:
    """Set running statistics, and return how many variances were below 0 and are held there."""
    held = 0
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name in values:
                buffer.copy_(values[name])
                if name.endswith(_VARIANCE):
                    held += int((buffer < 0).sum())
                    buffer.clamp_(min=0)
    return held


@contextmanager
def estimating(network: nn.Module) -> Iterator[None]:
    """Let the batches that pass through a network estimate its running statistics: their mean over the batches.

    As `torch.optim.swa_utils.update_bn` does it, but for layers other than batch norm, such as dropout: they stay as
    they are.
    """
    norms = list(_norms(network).values())
    before = [(norm.training, norm.momentum) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, (training, momentum) in zip(norms, before, strict=True):
            norm.train(training)
            norm.momentum = momentum


def _norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }
