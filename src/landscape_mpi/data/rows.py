"""Examples as rows: one tensor, or several by name; knows no data set and no network."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Rows = Tensor | Mapping[str, Tensor]
"""A tensor [n, ...], or tensors [n, ...] by name: row i of each belongs to example i."""


def tensors(rows: Rows) -> Mapping[str, Tensor]:
    """Return the tensors by name; a single one has none."""
    return {"": rows} if isinstance(rows, Tensor) else rows


def each(rows: Rows, change: Callable[[Tensor], Tensor]) -> Rows:
    """Return rows of the same form, every tensor changed."""
    return change(rows) if isinstance(rows, Tensor) else {name: change(tensor) for name, tensor in rows.items()}


def to(rows: Rows, device: torch.device) -> Rows:
    """Return the rows on a device."""
    return each(rows, lambda tensor: tensor.to(device))


def describe(rows: Rows) -> str:
    """Return names, dtypes and shapes in words."""
    return ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}".strip() for name, tensor in tensors(rows).items())


def found(value: object) -> str:
    """Return what a value is, in words: names, dtypes and shapes of tensors, however they are put together."""
    if isinstance(value, Tensor):
        return describe(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of " + ", ".join(f"{name!r} ({found(part)})" for name, part in value.items())
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(map(found, value)) or 'nothing'}"
    return "None" if value is None else f"a {type(value).__name__}"


def count(rows: Rows) -> int:
    """Return the number of examples."""
    return len(next(iter(tensors(rows).values())))


def nbytes(rows: Rows) -> int:
    """Return the memory of all tensors."""
    return sum(tensor.nbytes for tensor in tensors(rows).values())
