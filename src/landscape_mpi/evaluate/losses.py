"""Losses: (outputs, targets) -> one loss per example; cross entropy, mean squared error or the user's own."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.errors import UserError
from landscape_mpi.plugin import check_options, is_plugin, load_plugin

Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> one loss an example, [n]; outputs as the network gives them, targets as the data do."""
IGNORED = -100
"""The target of places that do not count, as in torch, unless `loss_options: {ignore_index: ...}` names another."""


def cross_entropy(outputs: Tensor, targets: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return -log softmax(outputs)[target] in nats, [n], for logits [n, k, ...] and classes [n, ...].

    Of several places an example it is the mean over those whose target is not `ignore_index`; 0 where there is none.
    Without a gradient to take it is float64: float32 rounds the loss of an image that the network is sure of to
    multiples of 1.2e-7, which moves a mean of 3e-4 by 6e-5 of it.
    """
    if not outputs.requires_grad:
        outputs = outputs.double()
    if targets.is_floating_point():  # probabilities of the classes, of which every place counts
        losses = functional.cross_entropy(outputs, targets.to(outputs.dtype), reduction="none")
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses
    losses = functional.cross_entropy(outputs, targets, reduction="none", ignore_index=ignore_index)
    if losses.dim() == 1:
        return losses
    counted = (targets != ignore_index).flatten(1)
    share = counted.shape[1] / counted.sum(1).clamp(min=1).to(losses.dtype)
    return losses.flatten(1).mean(1) * share


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each example, [n]; classes stand for their one-hot vectors.

    With one column of outputs whole numbers stand for themselves.
    """
    if targets.dim() == 1 and not targets.is_floating_point() and outputs.dim() == 2 and outputs.shape[1] > 1:
        targets = functional.one_hot(targets, outputs.shape[1])
    wanted = targets.to(outputs.dtype).reshape(outputs.shape)
    return (outputs - wanted).square().reshape(len(outputs), -1).mean(1)


OURS: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}


def build_loss(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss that a job names: `cross_entropy`, `mse` or `package.module:callable`, with keyword arguments.

    Raises:
        UserError: the name is unknown, the callable cannot be imported, or it takes no such options.
    """
    if is_plugin(name):
        return with_loss_options(name, load_plugin("loss", name, folder), options or {})
    if name in OURS:
        return with_loss_options(name, OURS[name], options or {})
    raise UserError("loss", f"found {name!r}", expected=f"{', '.join(OURS)} or `package.module:callable`")


def with_loss_options(name: str, loss: Loss, options: Mapping[str, Any]) -> Loss:
    """Return a loss with keyword arguments.

    Raises:
        UserError: it takes no such options.
    """
    if name not in OURS:
        check_options("loss_options", name, loss, options, None, None)
        return partial(loss, **options) if options else loss
    known = {"cross_entropy": ["ignore_index"]}.get(name, [])
    if set(options) - set(known):
        what = f"no other than {', '.join(known)}" if known else "none"
        raise UserError("loss_options", f"found {', '.join(map(str, options))} for {name}", expected=what)
    index = options.get("ignore_index", IGNORED)
    if type(index) is not int:
        raise UserError("loss_options.ignore_index", f"found {index!r}", expected="the whole number of what is ignored")
    return partial(loss, **options) if options else loss


def ours(loss: Loss) -> str | None:
    """Return the name of a loss of ours; None for the user's own."""
    function = loss.func if isinstance(loss, partial) else loss
    return next((name for name, one in OURS.items() if one is function), None)


def ignored(loss: Loss) -> int | None:
    """Return the target of places that do not count; None for a loss that knows no such thing."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return int(loss.ignore_index)
    if ours(loss) != "cross_entropy":
        return None
    return int(loss.keywords["ignore_index"]) if isinstance(loss, partial) else IGNORED
