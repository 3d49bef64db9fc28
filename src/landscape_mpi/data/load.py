"""Loads a split of CIFAR-10, of shapes10, of text, or of the data that a user's own callable returns."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape_mpi.data.cifar import read_cifar10
from landscape_mpi.data.shapes import ShapesOptions, draw_shapes10
from landscape_mpi.data.split import Choice, Rows, Split, count_classes, each
from landscape_mpi.data.text import TextOptions, read_text
from landscape_mpi.errors import UserError
from landscape_mpi.plugin import check_options, own_code, with_options


def load_user_split(
    build: str,
    function: Callable[..., Any],
    root: Path | None,
    split: str,
    options: Mapping[str, Any],
    choice: Choice,
) -> Split:
    """Call `function(root, split, **options)` and return the chosen examples.

    Args:
        build: What the job calls the function, for messages.
        function: Returns (inputs, targets), each a tensor, a numpy array or a mapping of names to them, or a
            map-style data set of such pairs; the chosen pairs are stacked.
        root: Passed on.
        split: Passed on.
        options: Passed on as keyword arguments.
        choice: Which examples.

    Raises:
        UserError: If the function raises, returns anything else, or inputs and targets do not fit together.
    """
    check_options("data.options", build, function, options, root, split)
    with own_code("data.build", build, lambda: f", called for the split '{split}'{with_options(options)}"):
        found: Any = function(root, split, **options)
        if _is_pair(found):
            _check_lengths(build, split, found)
            which = choice.of(_length(found))
            inputs, targets = (_each(part, lambda values: _to_tensor(values[which])) for part in found)
            count, classes = _length(found), None
            if choice.limit and not isinstance(found[1], Mapping):
                classes = count_classes(_to_tensor(found[1]))
        else:
            inputs, targets, count = _stack(found, choice)
            classes = None
    targets = _each(targets, _as_classes)
    notes = choice.note(split, targets, count, classes) if isinstance(targets, Tensor) and len(targets) else ()
    return Split(split, inputs, targets, notes)


def _is_pair(found: Any) -> bool:
    is_two = isinstance(found, tuple | list) and len(found) == 2
    return is_two and all(isinstance(array, Tensor | np.ndarray) for part in found for array in _arrays(part))


def _arrays(part: Any) -> list[Any]:
    """Return what has a row per example: the values of a mapping, else the part itself."""
    return list(part.values()) if isinstance(part, Mapping) else [part]


def _each(part: Any, change: Callable[[Any], Tensor]) -> Rows:
    """Return the part as a tensor, or as tensors by name."""
    return {str(name): change(array) for name, array in part.items()} if isinstance(part, Mapping) else change(part)


def _check_lengths(build: str, split: str, pair: Any) -> None:
    shapes = [list(array.shape) for part in pair for array in _arrays(part)[:1]]
    if len(shapes) == len(pair) and (not all(shapes) or shapes[0][0] != shapes[1][0]):
        raise UserError(
            "data.build",
            f"{build} returned inputs of shape {shapes[0]} and targets of shape {shapes[1]} for split '{split}'",
            expected="one target for each input along the first dimension",
        )


def _length(pair: Any) -> int:
    """Return the number of examples of a pair; 0 where there is no tensor at all."""
    return next((len(array) for part in pair for array in _arrays(part)), 0)


def _to_tensor(values: Tensor | np.ndarray[Any, Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu().contiguous()
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _stack(found: Any, choice: Choice) -> tuple[Rows, Rows, int]:
    """Return the chosen items of a map-style data set as rows of inputs and of targets, and how many items it has.

    Each tensor is filled in place.
    """
    if not hasattr(found, "__getitem__") or not hasattr(found, "__len__"):
        raise TypeError(
            f"it returned a {type(found).__name__}; expected (inputs, targets) as tensors or numpy arrays, "
            "or a map-style data set"
        )
    which = choice.of(len(found))
    numbers = range(which.stop) if isinstance(which, slice) else which.tolist()
    if not numbers:
        raise ValueError("its data set is empty; expected at least one example")

    def room(array: object) -> Tensor:
        first = _item_tensor(array)
        return torch.empty((len(numbers), *first.shape), dtype=first.dtype)

    stacked = [_each(part, room) for part in _pair_of(found, numbers[0])]
    for place, index in enumerate(numbers):
        for whole, part in zip(stacked, _pair_of(found, index), strict=True):
            for tensor, array in zip(_arrays(whole), _arrays(part), strict=True):
                item = _item_tensor(array)
                if item.shape != tensor.shape[1:] or item.dtype != tensor.dtype:
                    raise ValueError(
                        f"item {index} of its data set has shape {list(item.shape)} and {item.dtype}; expected "
                        f"{list(tensor.shape[1:])} and {tensor.dtype} as the first has"
                    )
                tensor[place] = item
    return stacked[0], stacked[1], len(found)


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


def _as_classes(targets: Tensor) -> Tensor:
    is_whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    return targets.to(torch.int64) if is_whole else targets


SPLITS = ("train", "test")


def load_split(
    build: str,
    root: Path | None,
    split: str,
    options: Mapping[str, Any],
    limit: int | None,
    callable_: Callable[..., Any] | None = None,
    order: int | None = None,
) -> Split:
    """Return the first `limit` examples of one split, in the order that `order` gives.

    Args:
        build: `cifar10`, `shapes10`, `text`, or the name of the user's callable as the job has it.
        root: Where the files lie; needed by `cifar10` and `text`, passed on to a callable.
        split: `train` or `test`.
        options: The options of `shapes10`, `text` or the callable; `cifar10` has none.
        limit: The largest number of examples; None for all of them.
        callable_: What `build` names where it is not one of the built-in sets.
        order: The seed of a random order in which the examples are taken; None for the order of the data.

    Raises:
        UserError: If the data are absent, damaged, or not what they should be.
    """
    if build not in _BUILT_IN:
        if callable_ is None:
            known = ", ".join(_BUILT_IN)
            raise UserError("data.build", f"found '{build}'", expected=f"{known} or 'package.module:callable'")
        return load_user_split(build, callable_, root, split, options, Choice(limit, order))
    if split not in SPLITS:
        raise UserError("data.splits", f"{build} has no split '{split}'", expected="train or test")
    choice = Choice(limit, order)
    found = _BUILT_IN[build](root, split, options, choice.first)
    which = choice.of(len(found))
    if isinstance(which, slice):
        return found
    inputs, targets = (
        each(rows, lambda tensor: tensor[torch.from_numpy(which)]) for rows in (found.inputs, found.targets)
    )
    return replace(found, inputs=inputs, targets=targets)


def _load_cifar10(root: Path | None, split: str, options: Mapping[str, Any], limit: int | None) -> Split:
    if options:
        raise UserError("data.options", f"found {sorted(options)}, but cifar10 has no options", remedy="remove them")
    if root is None:
        raise UserError("data.root", "is missing", expected="the folder that holds cifar-10-batches-py or -bin")
    images, labels, notes = read_cifar10(root, split, limit)
    return Split(split, torch.from_numpy(images), torch.from_numpy(labels).to(torch.int64), notes)


def _load_shapes10(_root: Path | None, split: str, options: Mapping[str, Any], limit: int | None) -> Split:
    images, labels = draw_shapes10(split, ShapesOptions.from_mapping(options), limit)
    return Split(split, torch.from_numpy(images), torch.from_numpy(labels).to(torch.int64))


def _load_text(root: Path | None, split: str, options: Mapping[str, Any], limit: int | None) -> Split:
    if root is None:
        raise UserError("data.root", "is missing", expected="a text file, or a pattern of their names")
    windows, notes = read_text(root, split, TextOptions.from_mapping(options), limit)
    tokens = torch.from_numpy(windows)
    return Split(split, tokens, tokens, notes)


_BUILT_IN: dict[str, Callable[[Path | None, str, Mapping[str, Any], int | None], Split]] = {
    "cifar10": _load_cifar10,
    "shapes10": _load_shapes10,
    "text": _load_text,
}
