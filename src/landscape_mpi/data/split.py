"""Defines a split of a data set: inputs and targets as tensors, which examples are taken, batches, normalisation."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.errors import UserError
from landscape_mpi.sampling.order import uniforms

Rows = Tensor | Mapping[str, Tensor]
"""A tensor [n, ...], or tensors [n, ...] by name: row i of each belongs to example i."""
Examples = slice | NDArray[np.int64]
"""Examples of a split: consecutive ones, or their numbers [n] in any order."""
FEWEST_ROWS = 16
"""With fewer rows, the libraries of matrix products compute in other ways, which round differently."""


def tensors(rows: Rows) -> Mapping[str, Tensor]:
    """Return the tensors by name; a single tensor has the empty name."""
    return {"": rows} if isinstance(rows, Tensor) else rows


def each(rows: Rows, change: Callable[[Tensor], Tensor]) -> Rows:
    """Return rows of the same form, with every tensor changed."""
    return change(rows) if isinstance(rows, Tensor) else {name: change(tensor) for name, tensor in rows.items()}


def to(rows: Rows, device: torch.device) -> Rows:
    """Return the rows on a device."""
    return each(rows, lambda tensor: tensor.to(device))


def describe(rows: Rows) -> str:
    """Return names, dtypes and shapes in words."""
    return ", ".join(f"{name} {tensor.dtype} {list(tensor.shape)}".strip() for name, tensor in tensors(rows).items())


def found(value: object) -> str:
    """Return a value in words: names, dtypes and shapes of its tensors, also in nested lists and mappings."""
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


def batches(examples: int, batch: int) -> Iterator[slice]:
    """Cut `examples` into batches; a last one of fewer than 16 (or than `batch`) joins the one before it.

    A batch of one differs most, because it is convolved in another way. A few rows differ because matrices are
    multiplied in another way. On some CPUs any number of rows may change a last bit, which is why the batch is fixed
    with the surface file. What is cut at a multiple of the batch first, and then into batches, makes the same batches.
    """
    fewest = min(batch, FEWEST_ROWS)
    start = 0
    while start < examples:
        stop = min(start + batch, examples)
        if examples - stop < fewest:
            stop = examples
        yield slice(start, stop)
        start = stop


def parts(examples: Examples, count: int, batch: int) -> Iterator[Examples]:
    """Cut some of a split's `count` examples into batches."""
    if isinstance(examples, slice):
        first, last, _ = examples.indices(count)
        return (slice(first + cut.start, first + cut.stop) for cut in batches(last - first, batch))
    return (examples[cut] for cut in batches(len(examples), batch))


def rows(tensor: Tensor, examples: Examples) -> Tensor:
    """Return the rows of a tensor [n, ...] that belong to some examples: a view of consecutive ones, else a copy."""
    return tensor[examples if isinstance(examples, slice) else torch.from_numpy(examples).to(tensor.device)]


STREAM = 1 << 32
"""Stream of the random numbers of `data.order`; the streams of `sampling` are the numbers of the splits."""


@dataclass(frozen=True)
class Choice:
    """The first `limit` examples (None: all) in the random order of the seed `order` (None: the order of the data)."""

    limit: int | None = None
    order: int | None = None

    @property
    def first(self) -> int | None:
        """How many examples have to be read where only the first ones are needed; None for all."""
        return self.limit if self.order is None else None

    def of(self, count: int) -> slice | NDArray[np.int64]:
        """Return which of `count` examples are taken; a random order depends on the seed and on `count` alone."""
        wanted = min(count, self.limit or count)
        if self.order is None:
            return slice(0, wanted)
        return np.argsort(uniforms(self.order, count, STREAM), kind="stable")[:wanted].astype(np.int64)

    def note(self, split: str, targets: Tensor, count: int, classes: int | None = None) -> tuple[str, ...]:
        """Return a note where the examples taken have few of the classes, as the first ones of a set sorted by class.

        Args:
            split: its name.
            targets: the targets of the examples that were taken.
            count: how many examples there are to take from.
            classes: how many classes all of them have; None where that is not known.
        """
        if self.limit is None or len(targets) >= count or not _are_classes(targets):
            return ()
        held = torch.unique(targets)
        if 2 * len(held) > min(len(targets), classes or 2):
            return ()
        what = f"{len(held)} classes alone" if len(held) > 1 else f"class {int(held[0])} alone"
        of = f", of {classes} classes" if classes else ""
        way = "" if self.order is not None else "; data.order: 0 takes them in a random order"
        return (f"{split}: the {len(targets):,} examples taken of {count:,} hold {what}{of}{way}.",)


def count_classes(targets: Tensor) -> int | None:
    """Return how many classes there are among all targets; None where they are no classes."""
    return len(torch.unique(targets)) if _are_classes(targets) else None


def _are_classes(targets: Tensor) -> bool:
    return not (targets.is_floating_point() or targets.is_complex()) and 0 < targets.numel() == len(targets)


@dataclass(frozen=True, eq=False)
class Split:
    """Examples that one mean loss is taken over, in a fixed order.

    Attributes:
        name: `train` or `test`.
        inputs: One example per row: uint8 [n, 3, 32, 32] for the built-in images, any dtype for a user's data, or
            several tensors by name, which reach the network as keyword arguments.
        targets: Class indices, int64 [n], or whatever the user's loss takes, [n, ...], also several by name.
        notes: Sentences that a user should see, such as that a set is partial.

    Raises:
        UserError: If the lengths differ, or there is no example at all.
    """

    name: str
    inputs: Rows
    targets: Rows
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, rows in (("inputs", self.inputs), ("targets", self.targets)):
            self._check(what, rows)
        if count(self.inputs) != count(self.targets):
            raise UserError(
                "data",
                (
                    f"split '{self.name}' has {count(self.inputs)} inputs and {count(self.targets)} targets, expected "
                    "one target for each input"
                ),
            )

    def __len__(self) -> int:
        return count(self.targets)

    def _check(self, what: str, rows: Rows) -> None:
        """Refuse rows without an example, or of different lengths."""
        for name, tensor in tensors(rows).items():
            called = f"{what} {name!r}" if name else what
            if tensor.ndim == 0 or len(tensor) == 0:
                raise UserError(
                    "data",
                    f"split '{self.name}' has {called} of shape {list(tensor.shape)}",
                    expected="at least one example along the first dimension",
                )
            if len(tensor) != count(rows):
                raise UserError(
                    "data",
                    f"split '{self.name}' has {len(tensor)} {called}, but {count(rows)} of the first",
                    expected="one row of each for every example",
                )
        if not tensors(rows):
            raise UserError("data", f"split '{self.name}' has no {what} at all", expected="at least one tensor")

    def fingerprint(self) -> str:
        """Return the sha256 (hexadecimal) over name, dtype, shape and bytes of the inputs and the targets."""
        digest = hashlib.sha256()
        named = [pair for rows in (self.inputs, self.targets) for pair in tensors(rows).items()]
        for name, tensor in named:
            digest.update(f"{name}{tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, in units of the scaled inputs (1.0 is white).

    Raises:
        UserError: If the lengths differ or are 0, or a number is not finite, or a deviation is not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise UserError(
                "data.normalize",
                f"found {len(self.mean)} values in mean and {len(self.std)} in std",
                expected="one of each for every channel",
            )
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise UserError(
                "data.normalize",
                f"found mean {list(self.mean)} and std {list(self.std)}",
                expected="finite numbers, and above 0 in std",
            )

    def apply(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return (x - mean) / std for each channel (dimension 1), with x = inputs / 255 where they are uint8.

        The order of the operations is that of torchvision's `ToTensor` and `Normalize`, so the bits are the same.

        Args:
            inputs: [n, channels, ...], uint8 or floating point; left as they are.
            dtype: The floating-point type to compute in and to return.

        Raises:
            UserError: If the inputs have another number of channels.
        """
        if inputs.ndim < 2 or inputs.shape[1] != len(self.mean):
            raise UserError(
                "data.normalize",
                f"has {len(self.mean)} channels, but the inputs have shape {list(inputs.shape)}",
                expected=f"[n, {len(self.mean)}, ...]",
            )
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        mean, std = (_constants(values, dtype, inputs.device).reshape(shape) for values in (self.mean, self.std))
        scaled = inputs.to(dtype) / 255 if inputs.dtype == torch.uint8 else inputs.to(dtype, copy=True)
        return scaled.sub_(mean).div_(std)


@cache
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the values as a tensor; made once, because each copy to a device waits for all its unfinished work."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)


DEFAULT_NORMALISATION: dict[str, Normalisation] = {
    "cifar10": Normalisation((0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616)),
    "shapes10": Normalisation((0.37, 0.37, 0.37), (0.24, 0.24, 0.24)),
}
"""The value of `data.normalize` where a job leaves it out; a user's callable has none."""
