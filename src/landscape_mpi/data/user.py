"""A user's own data set, from the callable that a job names; knows nothing of files or built-in sets."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape_mpi.data.split import Split
from landscape_mpi.errors import UserError


def load_user_split(
    build: str,
    function: Callable[..., Any],
    root: Path | None,
    split: str,
    options: Mapping[str, Any],
    limit: int | None,
) -> Split:
    """Call `function(root, split, **options)` and return its first examples.

    Args:
        build: What the job calls the function, for messages.
        function: Returns (inputs, targets) as tensors or numpy arrays, or a map-style data set of such pairs,
            of which the first `limit` are stacked.
        root: Passed on.
        split: Passed on.
        options: Passed on as keyword arguments.
        limit: The largest number of examples; None for all of them.

    Raises:
        UserError: If the function raises, returns anything else, or inputs and targets do not fit together.
    """
    with _blaming(build, split):
        found: Any = function(root, split, **options)
        if _is_pair(found):
            _check_lengths(build, split, found)
            inputs, targets = (_to_tensor(values[:limit]) for values in found)
        else:
            inputs, targets = _stack(found, limit)
    return Split(split, inputs, _as_classes(targets))


@contextmanager
def _blaming(build: str, split: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one sentence; the cause keeps the traceback."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].removesuffix(".")
        raise UserError(
            f"data.build: {build} failed for split '{split}' with {type(error).__name__}: {reason}."
        ) from error


def _is_pair(found: Any) -> bool:
    is_two = isinstance(found, tuple | list) and len(found) == 2
    return is_two and all(isinstance(part, Tensor | np.ndarray) for part in found)


def _check_lengths(build: str, split: str, pair: Any) -> None:
    shapes = [list(part.shape) for part in pair]
    if not all(shapes) or shapes[0][0] != shapes[1][0]:
        raise UserError(
            f"data.build: {build} returned inputs of shape {shapes[0]} and targets of shape {shapes[1]} for "
            f"split '{split}'; expected one target for each input along the first dimension."
        )


def _to_tensor(values: Tensor | np.ndarray[Any, Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().contiguous()
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _stack(found: Any, limit: int | None) -> tuple[Tensor, Tensor]:
    """Return the first items of a map-style data set as two tensors, each filled in place."""
    if not hasattr(found, "__getitem__") or not hasattr(found, "__len__"):
        raise TypeError(
            f"it returned a {type(found).__name__}; expected (inputs, targets) as tensors or numpy arrays, "
            "or a map-style data set"
        )
    count = min(len(found), limit or len(found))
    if count == 0:
        raise ValueError("its data set is empty; expected at least one example")
    first = [_item_tensor(part) for part in _pair_of(found, 0)]
    stacked = [torch.empty((count, *part.shape), dtype=part.dtype) for part in first]
    for index in range(count):
        for whole, part in zip(stacked, _pair_of(found, index), strict=True):
            _put(whole, index, _item_tensor(part))
    return stacked[0], stacked[1]


def _pair_of(found: Any, index: int) -> tuple[Any, Any]:
    item = found[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise TypeError(f"item {index} of its data set is a {type(item).__name__}; expected (input, target)")
    return item[0], item[1]


def _item_tensor(part: object) -> Tensor:
    if not isinstance(part, Tensor | np.ndarray | np.generic | int | float):
        raise TypeError(
            f"an item of its data set holds a {type(part).__name__}; expected tensors, arrays or numbers; "
            "give the data set a transform that makes them"
        )
    return torch.as_tensor(part).detach()


def _put(whole: Tensor, index: int, part: Tensor) -> None:
    if part.shape != whole.shape[1:] or part.dtype != whole.dtype:
        raise ValueError(
            f"item {index} of its data set has shape {list(part.shape)} and {part.dtype}; expected "
            f"{list(whole.shape[1:])} and {whole.dtype} as item 0 has"
        )
    whole[index] = part


def _as_classes(targets: Tensor) -> Tensor:
    is_whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    return targets.to(torch.int64) if is_whole else targets
