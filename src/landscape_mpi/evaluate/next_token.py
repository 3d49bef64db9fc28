"""Computes the loss of language models: how well each token of a text is predicted from those before it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from landscape_mpi.data import Split
from landscape_mpi.data.split import found
from landscape_mpi.errors import Key, UserError

IGNORED = -100
"""The target of places that do not count, as in torch, unless `loss_options: {ignore_index: ...}` names another."""
BLOCK = 1 << 18
"""Logits that are float64 at one time, 2 MB: those of all tokens of a batch would take twice the batch's outputs."""


def next_token(outputs: Tensor, targets: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return the mean of -log p of each example's tokens but the first, in nats, [n].

    The logits at a place are those of the token that follows it, as transformers' causal models give them; the logits
    at the last place are of no token here. Without a gradient to take it is float64, a block of places at a time.

    Args:
        outputs: Logits [n, length, vocabulary].
        targets: The tokens themselves, int64 [n, length], not shifted. Those that are `ignore_index` do not count; an
            example in which none counts has the loss 0.
        ignore_index: see `targets`.
    """
    counted = following(targets) != ignore_index
    wanted = functional.pad(torch.where(counted, following(targets), 0), (0, 1)).flatten()
    logits = outputs.flatten(0, 1)
    if outputs.requires_grad:
        losses = functional.cross_entropy(logits, wanted, reduction="none")
    else:
        rows = max(1, BLOCK // logits.shape[1])
        blocks = zip(torch.split(logits, rows), torch.split(wanted, rows), strict=True)
        losses = torch.cat([_minus_log_p(*block) for block in blocks])
    of_places = losses.view(targets.shape)[:, :-1]
    return torch.where(counted, of_places, 0).sum(1) / counted.sum(1).clamp(min=1)


def following(targets: Tensor) -> Tensor:
    """Return the tokens that are predicted, [n, length - 1], of tokens [n, length]."""
    return targets[:, 1:]


def _minus_log_p(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return log(sum_j exp(z_j - max z)) - (z_wanted - max z), float64 [m], for logits z [m, vocabulary]."""
    shifted = logits.double().sub_(logits.amax(1, keepdim=True))
    of_wanted = shifted.gather(1, wanted[:, None]).squeeze(1)
    return shifted.exp_().sum(1).log_() - of_wanted


def logits_of(outputs: Any) -> Any:
    """Return the logits among what a network returned, as transformers' models do, by name or first; else all of it.

    >>> logits_of({"loss": None, "logits": torch.zeros(1, 2, 3)}).shape
    torch.Size([1, 2, 3])
    """
    if isinstance(outputs, Mapping):
        return outputs.get("logits", outputs)
    if isinstance(outputs, tuple | list) and not hasattr(outputs, "logits"):
        return outputs[0] if outputs else outputs
    return getattr(outputs, "logits", outputs)


def check_tokens(split: Split, targets: object, outputs: Tensor, index: int | None) -> None:
    """Refuse outputs and targets that `next_token` cannot take.

    Raises:
        UserError: with what was found and what to do.
    """
    where = f"the {split.name} split has targets {found(targets)} and outputs {found(outputs)}"
    if not isinstance(targets, Tensor) or targets.dim() != 2 or targets.shape[1] < 2 or not _is_whole(targets):
        raise UserError(
            "loss",
            f"next_token takes the tokens themselves as targets, and {where}",
            expected="whole numbers [n, length] of at least two tokens an example",
        )
    if outputs.dim() != 3 or outputs.shape[1] != targets.shape[1]:
        raise UserError(
            "loss",
            f"next_token takes logits of every place, and {where}",
            expected=f"outputs [n, {targets.shape[1]}, vocabulary], or an object that has them as its `logits`",
        )
    counted = targets[targets != index]
    outside = counted[(counted < 0) | (counted >= outputs.shape[2])]
    if len(outside):
        token, vocabulary = int(outside[0]), outputs.shape[2]
        raise UserError(
            "loss",
            f"the {split.name} split has the token {token}, and the network has logits for {vocabulary:,}",
            expected=f"tokens 0 to {vocabulary - 1:,}",
            remedy=(
                "take the network's own tokenizer, or ",
                Key("loss_options"),
                f": {{ignore_index: {token}}} for places that do not count",
            ),
        )


def _is_whole(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
