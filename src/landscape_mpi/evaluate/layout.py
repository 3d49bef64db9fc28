"""How the weights of a network lie in memory: channels last, faster to convolve, where that changes nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape_mpi.evaluate.evaluator import Task, fast_copy
from landscape_mpi.networks.copies import duplicate

IMAGES = 16
"""Images of the first split that two layouts are compared on."""
ROUNDING = 1e-3
"""Largest error of an image's loss between layouts of one network, relative to the larger of the loss and 1."""
READERS = frozenset({"as_strided", "as_strided_", "stride", "data_ptr", "storage", "untyped_storage"})
"""Operations whose result depends on how a tensor lies in memory."""
PERHAPS_VIEWS = frozenset({"flatten", "reshape", "reshape_as", "ravel", "contiguous"})
"""Operations that return a view or a copy, as the tensor lies in memory: a write into one may be lost in the other."""


def choose_layout(network: nn.Module, task: Task) -> torch.memory_format:
    """Return channels last where a network in eval mode gives the same losses so, and never depends on a layout."""
    split, images = next(iter(task.splits)), slice(0, IMAGES)
    plain = duplicate(network)  # out of the watch's sight: copying looks at where tensors lie
    with _Watch() as watch:
        expected = task.evaluate(plain, split, images, IMAGES).losses
    if watch.depends:
        return torch.contiguous_format
    try:
        found = task.evaluate(fast_copy(network, torch.channels_last), split, images, IMAGES).losses
    except Exception:  # whatever the user's forward pass has against tensors that lie so
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
