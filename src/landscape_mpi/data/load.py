"""From the `data` section of a job, as plain arguments, to a split; knows which data sets there are."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from landscape_mpi.data.choose import Choice
from landscape_mpi.data.cifar import read_cifar10
from landscape_mpi.data.rows import each
from landscape_mpi.data.shapes import ShapesOptions, draw_shapes10
from landscape_mpi.data.split import Split
from landscape_mpi.data.user import load_user_split
from landscape_mpi.errors import UserError

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
    """Return the first `limit` examples of one split.

    Args:
        build: `cifar10`, `shapes10`, or the name of the user's callable as the job has it.
        root: Where the files lie; needed by `cifar10`, passed on to a callable.
        split: `train` or `test`.
        options: Of `shapes10` or of the callable; `cifar10` has none.
        limit: The largest number of examples; None for all of them.
        callable_: What `build` names where it is not one of the built-in sets.
        order: The seed of a random order in which they are taken; None for the data's own.

    Raises:
        UserError: If the data are absent, damaged, or not what they should be.
    """
    if build not in _BUILT_IN:
        if callable_ is None:
            raise UserError("data.build", f"found '{build}'", expected="cifar10, shapes10 or 'package.module:callable'")
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


_BUILT_IN: dict[str, Callable[[Path | None, str, Mapping[str, Any], int | None], Split]] = {
    "cifar10": _load_cifar10,
    "shapes10": _load_shapes10,
}
