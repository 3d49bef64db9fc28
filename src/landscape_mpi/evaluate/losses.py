"""Losses: (outputs, targets) -> one loss per example; cross entropy, mean squared error or the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from landscape_mpi.errors import UserError
from landscape_mpi.plugin import is_plugin, load_plugin

Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> one loss an example, [n]; outputs as the network gives them, targets as the data do."""


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return -log softmax(outputs)[target] in nats, [n], for logits [n, k] and classes [n].

    Without a gradient to take it is float64: float32 rounds the loss of an image that the network is sure of to
    multiples of 1.2e-7, which moves a mean of 3e-4 by 6e-5 of it.
    """
    if not outputs.requires_grad:
        outputs = outputs.double()
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return losses.flatten(1).mean(1) if losses.dim() > 1 else losses


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each example, [n]; classes stand for their one-hot vectors."""
    if targets.dim() == 1 and not targets.is_floating_point() and outputs.dim() == 2:
        targets = functional.one_hot(targets, outputs.shape[1])
    wanted = targets.to(outputs.dtype).reshape(outputs.shape)
    return (outputs - wanted).square().flatten(1).mean(1)


OURS: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}


def build_loss(name: str, folder: Path) -> Loss:
    """Return the loss that a job names: `cross_entropy`, `mse` or `package.module:callable`.

    Raises:
        UserError: the name is unknown or the callable cannot be imported.
    """
    if is_plugin(name):
        return load_plugin("loss", name, folder)
    if name in OURS:
        return OURS[name]
    raise UserError(f"loss: found {name!r}; expected {', '.join(OURS)} or `package.module:callable`.")
