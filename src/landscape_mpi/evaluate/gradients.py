"""Which of torch's modes a network and its loss can be evaluated in, found on a first batch; knows no plane."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.evaluator import MODES, Task
from landscape_mpi.evaluate.memory import Batch
from landscape_mpi.evaluate.targets import check_fit
from landscape_mpi.networks.copies import duplicate

FIRST = 64
"""Examples of the first batch, at the most."""
WORDS = {
    "no_grad": "differs in torch's inference mode, or raises in it: evaluated under no_grad",
    "enabled": "takes gradients itself: evaluated with gradients enabled, which takes more memory",
}


def first_batch(task: Task, network: nn.Module, batch: int = FIRST, accuracy: bool = False) -> Task:
    """Return a task with the first of torch's modes in which a copy of the network and the loss evaluate a batch.

    Inference mode is cheapest; it counts only where no_grad gives the same, because some of torch's derivatives are 0
    in it without a word. Networks and losses that take gradients themselves need these enabled.

    Raises:
        UserError: the network or the loss raises in every mode, or the targets do not fit.
    """
    split = next(iter(task.splits))
    found: dict[str, Tensor] = {}
    failures: list[UserError] = []
    for mode in MODES:
        tried = replace(task, gradients=mode)
        try:
            found[mode] = Batch(min(batch, FIRST)).attempt(
                lambda images, tried=tried: _losses(tried, network, split, images, accuracy)  # type: ignore[misc]
            )
        except UserError as error:
            if not error.details:  # no mode changes that
                raise
            failures.append(error)
            continue
        if mode != "inference":
            break
    if not found:
        raise failures[-1]
    last = list(found)[-1]
    if "inference" in found and torch.allclose(found["inference"], found[last], rtol=1e-5, atol=1e-8, equal_nan=True):
        return task
    return replace(task, gradients=last)


def mode_note(task: Task) -> str:
    """Say in which mode a network is evaluated, where it is not the usual one."""
    return "" if task.gradients == "inference" else f"the network or its loss {WORDS[task.gradients]}."


def _losses(task: Task, network: nn.Module, split: str, images: int, accuracy: bool) -> Tensor:
    """Return the losses of the first examples of a split, and see that every split fits what came out."""
    some = slice(0, min(images, len(task.splits[split])))
    with task.mode():
        outputs, targets = task.outputs_of(duplicate(network), split, some)
        for one in task.splits.values():
            check_fit(one, task.loss, outputs, accuracy)
        return task.losses(outputs, targets, split).detach().double()
