"""Computes losses, one number per example (cross entropy, squared error, next token), and prepares their targets."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from landscape_mpi.data import Split
from landscape_mpi.data.split import each, found
from landscape_mpi.errors import Key, UserError
from landscape_mpi.plugin import check_options, is_plugin, load_plugin

Loss = Callable[[Any, Any], Tensor]
"""(outputs, targets) -> one loss per example, [n]; outputs as the network gives them, targets as the data do."""
FROM_DATA = Key("data.build")
IGNORED = -100
"""The target of places that do not count, as in torch, unless `loss_options: {ignore_index: ...}` names another."""
BLOCK = 1 << 18
"""Logits that are float64 at one time, 2 MB: those of all tokens of a batch would take twice the batch's outputs."""


def cross_entropy(outputs: Tensor, targets: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return -log softmax(outputs)[target] in nats, [n], for logits [n, k, ...] and classes [n, ...].

    Where an example has several places, it is the mean over those whose target is not `ignore_index`; 0 where there is
    none. It is float64 where no gradient is taken. float32 rounds the loss of an example that the network is sure of to
    multiples of 1.2e-7, which moves a mean of 3e-4 by 6e-5 of that mean.
    """
    if not outputs.requires_grad:
        outputs = outputs.double()
    if targets.is_floating_point():  # probabilities of the classes: every place counts
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

    With one column of outputs, whole numbers are values and not classes.
    """
    if targets.dim() == 1 and not targets.is_floating_point() and outputs.dim() == 2 and outputs.shape[1] > 1:
        targets = functional.one_hot(targets, outputs.shape[1])
    wanted = targets.to(outputs.dtype).reshape(outputs.shape)
    return (outputs - wanted).square().reshape(len(outputs), -1).mean(1)


def next_token(outputs: Tensor, targets: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return the mean of -log p of each example's tokens except the first, in nats, [n].

    The logits at a place are those of the token that follows it, as transformers' causal models give them. The logits
    at the last place are not used. Where no gradient is taken it is float64, a block of places at a time.

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


def tokens_right(outputs: Tensor, targets: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Return the share of each example's tokens except the first that have the largest logit, float64 [n].

    NaN logits count as wrong. The arguments are those of `next_token`; an example in which no token counts has 0.

    >>> logits = torch.tensor([[[0.0, 1, 0], [2, 0, 0], [0, 0, 9]]])
    >>> tokens_right(logits, torch.tensor([[2, 1, 2]])), tokens_right(logits, torch.tensor([[2, 1, -100]]))
    (tensor([0.5000], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    wanted = following(targets)
    largest, best = outputs[:, :-1].max(2)
    counted = wanted != ignore_index
    right = (best == wanted) & ~largest.isnan() & counted
    return right.sum(1).double() / counted.sum(1).clamp(min=1)


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


OURS: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "next_token": next_token}
IGNORING = ("cross_entropy", "next_token")
"""Losses that leave out the places with one given target."""


def build_loss(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss that a job names, one of ours or `package.module:callable`, with keyword arguments.

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
    known = ["ignore_index"] if name in IGNORING else []
    if set(options) - set(known):
        what = f"no other than {', '.join(known)}" if known else "none"
        raise UserError("loss_options", f"found {', '.join(map(str, options))} for {name}", expected=what)
    index = options.get("ignore_index", IGNORED)
    if type(index) is not int:
        raise UserError("loss_options.ignore_index", f"found {index!r}", expected="the class to ignore, a whole number")
    return partial(loss, **options) if options else loss


def ours(loss: Loss) -> str | None:
    """Return the name of a loss of ours; None for the user's own."""
    function = loss.func if isinstance(loss, partial) else loss
    return next((name for name, one in OURS.items() if one is function), None)


def ignored(loss: Loss) -> int | None:
    """Return the target that the loss ignores; None for a loss that ignores none."""
    if isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss):
        return int(loss.ignore_index)
    if ours(loss) not in IGNORING:
        return None
    return int(loss.keywords["ignore_index"]) if isinstance(loss, partial) else IGNORED


def asked(targets: Tensor, loss: Loss) -> Tensor:
    """Return the targets that a loss asks for: the first token of a text is not predicted."""
    is_text = ours(loss) == "next_token" and targets.dim() == 2 and targets.shape[1] > 1
    return following(targets) if is_text else targets


def prepared(split: Split, loss: Loss) -> Split:
    """Return a split as cross entropy, ours or torch's own, takes it; for most other losses at most add a note.

    Classes [n, 1] and truth values become classes [n], and examples of which no place counts are left out.

    Raises:
        UserError: no place of any example counts.
    """
    index = ignored(loss)
    if not isinstance(split.targets, Tensor) or not _is_whole(split.targets):
        return split
    if index is None:
        return _left_to_the_loss(split, split.targets)
    targets, notes = split.targets, list(split.notes)
    if ours(loss) != "next_token":
        targets = as_classes(targets)
    if targets.shape != split.targets.shape:
        notes.append(f"{split.name}: the targets {found(split.targets)} are taken as classes [{len(targets)}].")
    counts = (asked(targets, loss) != index).reshape(len(targets), -1).any(1)
    if not counts.any():
        raise UserError(
            "data",
            f"every target of the {split.name} split is {index}, which {ours(loss) or 'cross_entropy'} ignores",
            expected="at least one that counts, or another loss_options.ignore_index",
        )
    if counts.all():
        return replace(split, targets=targets, notes=tuple(notes))
    notes.append(
        f"{split.name}: {int((~counts).sum()):,} of {len(counts):,} examples have no target but {index}, which is "
        "ignored; they are left out."
    )
    return replace(
        split, inputs=each(split.inputs, lambda tensor: tensor[counts]), targets=targets[counts], notes=tuple(notes)
    )


def _left_to_the_loss(split: Split, targets: Tensor) -> Split:
    """Return a split with a note where its targets hold the target that torch's own losses ignore."""
    held = int((targets == IGNORED).reshape(len(targets), -1).any(1).sum())
    if not held:
        return split
    note = (
        f"{split.name}: {held:,} of {len(split):,} examples have targets of {IGNORED}, which a loss of your own has to "
        "deal with: every example counts in means and in accuracy."
    )
    return replace(split, notes=(*split.notes, note))


def as_classes(targets: Tensor) -> Tensor:
    """Return whole numbers [n, 1] as [n], and truth values as 0 and 1."""
    whole = targets.to(torch.int64) if targets.dtype == torch.bool else targets
    return whole.squeeze(1) if whole.dim() == 2 and whole.shape[1] == 1 and _is_whole(targets) else whole


def weights(split: Split, loss: Loss) -> Tensor | None:
    """Return how much each example counts, float64 [n] with a mean of 1; None where all count alike.

    The mean of weighted losses is the mean over all places that count, as that of `torch.nn.functional.cross_entropy`.
    """
    index = ignored(loss)
    if index is None or not isinstance(split.targets, Tensor) or not _is_whole(split.targets):
        return None
    counts = (asked(split.targets, loss) != index).reshape(len(split.targets), -1).sum(1)
    return None if bool((counts == counts[0]).all()) else counts.double() / counts.double().mean()


def check_fit(split: Split, loss: Loss, outputs: object, accuracy: bool) -> None:
    """Refuse outputs of a first batch that targets, a loss of ours or accuracy cannot take.

    Raises:
        UserError: with what was found and what to do.
    """
    name = ours(loss)
    if name and not isinstance(outputs, Tensor):
        raise UserError(
            "loss",
            f"{name} takes one tensor, and the network returned {found(outputs)}",
            expected=(
                "a loss of your own, `loss: module:callable`, that picks its part of the outputs, such as "
                "outputs['logits'] or outputs[0], and returns one number per example, or a network that returns that "
                "tensor alone"
            ),
        )
    if name == "next_token" and isinstance(outputs, Tensor):
        _check_tokens(split, split.targets, outputs, ignored(loss))
    elif isinstance(outputs, Tensor) and isinstance(split.targets, Tensor):
        if name == "cross_entropy":
            _check_classes(split, split.targets, outputs, ignored(loss))
        elif name == "mse":
            _check_squares(split, split.targets, outputs)
    if accuracy and isinstance(outputs, Tensor) and outputs.dim() == 2 and outputs.shape[1] == 1:
        raise UserError(
            "metrics",
            (
                "accuracy takes the largest of several outputs [n, classes], and the network has one column, "
                f"{found(outputs)}, that may be a logit or a probability"
            ),
            remedy=("write ", Key("metrics", ("loss",)), ", or a network with one output for each class"),
        )


def _check_classes(split: Split, targets: Tensor, outputs: Tensor, index: int | None) -> None:
    where = f"the {split.name} split has targets {found(targets)} and outputs {found(outputs)}"
    if outputs.dim() < 2 or outputs.shape[1] == 1:
        raise UserError(
            "loss",
            f"cross_entropy takes logits [n, classes] of at least two classes, and {where}",
            remedy=(
                "for one logit per example write a loss of your own with "
                "binary_cross_entropy_with_logits(outputs.reshape(-1), targets.reshape(-1).float(), reduction='none')"
            ),
        )
    classes = outputs.shape[1]
    if targets.shape[1:] == outputs.shape[1:] and targets.dim() == outputs.dim():
        if not targets.is_floating_point():
            raise UserError(
                "loss",
                f"cross_entropy takes classes [n], or probabilities as floating point, and {where}",
                remedy=("return targets.argmax(1) from ", FROM_DATA, " where they are one-hot vectors"),
            )
        return
    if not _is_whole(targets):
        raise UserError(
            "loss",
            f"cross_entropy takes whole numbers as classes, and {where}",
            remedy=("return targets.long() from ", FROM_DATA, ", or write loss: mse for numeric targets"),
        )
    if targets.shape[1:] != outputs.shape[2:]:
        last = (
            "Their last dimension comes second: [n, classes, ...]"
            if outputs.dim() > 2 and targets.shape[1:] == outputs.shape[1:-1]
            else ""
        )
        raise UserError(
            "loss",
            f"cross_entropy takes one class for each of the places of [n, classes, ...], and {where}",
            expected=f"targets of shape {[len(targets), *outputs.shape[2:]]}",
            remedy=last,
        )
    counted = targets[targets != index]
    outside = counted[(counted < 0) | (counted >= classes)]
    if len(outside):
        raise UserError(
            "loss",
            (
                f"the {split.name} split has the class {int(outside[0])}, and the network has {classes} outputs, "
                f"classes 0 to {classes - 1}"
            ),
            expected=(
                f"a network with more, targets that begin at 0, or loss_options: {{ignore_index: {int(outside[0])}}} "
                "for places that do not count"
            ),
        )


def _check_tokens(split: Split, targets: object, outputs: Tensor, index: int | None) -> None:
    """Refuse outputs and targets that `next_token` cannot take."""
    where = f"the {split.name} split has targets {found(targets)} and outputs {found(outputs)}"
    whole = isinstance(targets, Tensor) and _is_whole(targets) and targets.dtype != torch.bool
    if not isinstance(targets, Tensor) or not whole or targets.dim() != 2 or targets.shape[1] < 2:
        raise UserError(
            "loss",
            f"next_token takes the tokens themselves as targets, and {where}",
            expected="whole numbers [n, length] of at least two tokens per example",
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


def _check_squares(split: Split, targets: Tensor, outputs: Tensor) -> None:
    """Refuse targets whose entries would be in other places after a reshape to the outputs' shape."""
    where = f"the {split.name} split has targets {found(targets)} and outputs {found(outputs)}"
    if targets.dim() == 1 and not targets.is_floating_point() and outputs.dim() == 2 and outputs.shape[1] > 1:
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= outputs.shape[1]:
            raise UserError(
                "loss",
                (
                    f"mse takes whole numbers [n] as classes of {outputs.shape[1]} outputs, and {where}, with the "
                    f"classes {low} to {high}"
                ),
                remedy="return floating-point targets of the outputs' shape for numeric targets",
            )
        return
    one, other = targets[:1], outputs[:1]
    same = [n for n in one.shape if n != 1] == [n for n in other.shape if n != 1]
    flat = one.numel() == other.numel() and 2 in (one.dim(), other.dim())
    if targets.is_complex() != outputs.is_complex() or not (same or flat):
        raise UserError("loss", f"mse takes targets of the outputs' shape, and {where}", remedy="change one of them")


def _is_whole(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex())
