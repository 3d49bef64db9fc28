"""Chooses, by a first batch, torch's gradient mode, the layout of weights in memory, and how many examples to take."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape_mpi.data.split import count
from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.evaluator import MODES, Batch, Task, fast_copy
from landscape_mpi.evaluate.live import Live, apart
from landscape_mpi.evaluate.losses import check_fit
from landscape_mpi.networks.state import duplicate

FIRST = 64
"""Examples of the first batch, at the most."""
WORDS = {
    "no_grad": "differs in torch's inference mode, or raises in it: evaluated under no_grad",
    "enabled": "takes gradients itself: evaluated with gradients enabled, which takes more memory",
}
ROOM = 64 << 20
"""Most bytes of a batch's outputs; above, batches have fewer examples: 64 texts of a language model have gigabytes."""
EXAMPLES = 16
"""Examples of the first split that two layouts are compared on."""
ROUNDING = 1e-3
"""Largest error of an example's loss between layouts of one network, relative to the larger of the loss and 1."""
READERS = frozenset({"as_strided", "as_strided_", "stride", "data_ptr", "storage", "untyped_storage"})
"""Operations whose result depends on how a tensor lies in memory."""
PERHAPS_VIEWS = frozenset({"flatten", "reshape", "reshape_as", "ravel", "contiguous"})
"""Operations that return a view or a copy, depending on how a tensor lies in memory: a write into a copy is lost."""


def first_batch(task: Task, network: nn.Module | Live, batch: int = FIRST, accuracy: bool = False) -> Task:
    """Return a task with the first of torch's modes in which a network, or a copy, and the loss evaluate a batch.

    Inference mode is cheapest. It is chosen only where no_grad gives the same losses, because some of torch's
    derivatives are 0 in it without an error. Networks and losses that take gradients themselves need gradients
    enabled. The returned task also holds how much memory outputs take.

    Raises:
        UserError: the network or the loss raises in every mode, or the targets do not fit.
    """
    if isinstance(network, nn.Module):
        known = replace(task, output_bytes=_output_bytes(task, network))
        return _in_its_mode(known, network, examples_that_fit(known, min(batch, FIRST)), accuracy)
    with suppress(UserError):  # one example, as passes of a large network take long; some networks refuse a single one
        return _in_its_mode(task, network, 1, accuracy)
    return _in_its_mode(task, network, 2, accuracy)


def _in_its_mode(task: Task, network: nn.Module | Live, batch: int, accuracy: bool) -> Task:
    """Return a task as `first_batch` does, from a batch of a given number of examples."""
    split = next(iter(task.splits))
    found: dict[str, Tensor] = {}
    failures: list[UserError] = []
    size = 0.0
    for mode in MODES:
        tried = replace(task, gradients=mode)
        try:
            found[mode], size = Batch(batch).attempt(
                lambda examples, tried=tried: _losses(tried, network, split, examples, accuracy)  # type: ignore[misc]
            )
        except UserError as error:
            if not error.details:  # no mode changes that
                if not failures:
                    raise
                failures[0].remedy = error.remedy  # why it cannot be tried with gradients
                raise failures[0] from error
            failures.append(error)
            continue
        if mode != "inference":
            break
    if not found:
        raise failures[-1]
    last = list(found)[-1]
    if "inference" in found and torch.allclose(found["inference"], found[last], rtol=1e-5, atol=1e-8, equal_nan=True):
        last = task.gradients
    return replace(task, gradients=last, output_bytes=size)


def examples_that_fit(task: Task, most: int) -> int:
    """Return the largest number of examples, `most` or a power of two below it, whose outputs take at most 64 MB.

    At least 1; `most` where the task does not know how much an example takes.
    """
    one = task.output_bytes
    return most if most * one <= ROOM else 1 << max(0, math.floor(math.log2(ROOM / one)))


def _output_bytes(task: Task, network: nn.Module) -> float:
    """Return the memory of the outputs of the first example, or of the first two where a network refuses a single one.

    It is in bytes per example, and 0 where neither can be evaluated.
    """
    split, copy = next(iter(task.splits)), duplicate(network)
    for few in (1, 2):
        with suppress(Exception), replace(task, gradients="no_grad").mode():
            return _nbytes(task.outputs(copy, task.inputs(split, slice(0, few)), split)) / few
    return 0.0


def _nbytes(outputs: object) -> int:
    """Return the memory of all tensors in what a network returned."""
    if isinstance(outputs, Tensor):
        return outputs.nbytes
    parts = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, tuple | list) else ()
    return sum(map(_nbytes, parts))


def mode_note(task: Task) -> str:
    """Say in which mode a network is evaluated, where it is not the usual one."""
    return "" if task.gradients == "inference" else f"the network or its loss {WORDS[task.gradients]}."


def _losses(task: Task, network: nn.Module | Live, split: str, examples: int, accuracy: bool) -> tuple[Tensor, float]:
    """Return the losses of the first examples of a split, and the bytes that the outputs of one of them take.

    Check that every split fits the outputs.
    """
    some = slice(0, min(examples, len(task.splits[split])))
    with task.mode():
        outputs, targets = task.outputs_of(apart(network), split, some)
        for one in task.splits.values():
            check_fit(one, task.loss, outputs, accuracy)
        losses = task.losses(outputs, targets, split).detach().double()
        return losses, _nbytes(outputs) / count(targets)


def choose_layout(network: nn.Module, task: Task) -> torch.memory_format:
    """Return channels last where a network in eval mode gives the same losses with it, and never depends on a layout.

    A network without tensors of four dimensions gets channels last too: none of its tensors can be laid out in another
    way.
    """
    if not any(tensor.dim() == 4 for tensor in chain(network.parameters(), network.buffers())):
        return torch.channels_last
    split, examples = next(iter(task.splits)), slice(0, EXAMPLES)
    task = replace(task, metrics=())
    plain = duplicate(network)  # copied before the watch begins: copying looks at where tensors lie
    batch = examples_that_fit(task, EXAMPLES)
    with _Watch() as watch:
        expected = task.evaluate(plain, split, examples, batch).losses
    if watch.depends:
        return torch.contiguous_format
    try:
        found = task.evaluate(fast_copy(network, torch.channels_last), split, examples, batch).losses
    except Exception:  # the user's forward pass may refuse tensors that lie so
        return torch.contiguous_format
    wild = ~np.isfinite(expected)
    bounds = ROUNDING * np.maximum(1.0, np.abs(expected[~wild]))
    same = np.array_equal(np.isfinite(found), ~wild) and bool((np.abs(found - expected)[~wild] <= bounds).all())
    return torch.channels_last if same else torch.contiguous_format


class _Watch(TorchFunctionMode):
    """Notes whether a forward pass reads how a tensor lies in memory, or writes into what may be a copy elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.depends = False
        self._views: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function, and note what it is."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        writes = (
            kwargs.get("inplace") or name.startswith("__i") or name == "__setitem__" or name.rstrip("_") + "_" == name
        )
        if name in READERS or (writes and args and any(args[0] is view for view in self._views)):
            self.depends = True
        made = func(*args, **kwargs)
        if name in PERHAPS_VIEWS and isinstance(made, Tensor):
            self._views.append(made)
        return made
