"""Cuts examples into batches, and halves a batch that does not fit into memory."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Examples = slice | NDArray[np.int64]
"""Examples of a split: consecutive ones, or their numbers [n] in any order."""
FEWEST_ROWS = 16
"""Fewer rows take other paths through the libraries of matrix products, which round differently."""
FEWEST = 2
"""A batch of one takes another path through the convolution library: see `batches`."""


def batches(examples: int, batch: int) -> Iterator[slice]:
    """Cut `examples` into batches; a last one of fewer than 16 (or than `batch`) joins the one before it.

    A batch of one differs most, by another way to convolve, and few rows by another way to multiply matrices. On some
    CPUs any number of rows may change a last bit, which is why the batch is fixed with the surface file. What is cut
    at a multiple of the batch first, and then into batches, makes the same batches.
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


class Batch:
    """A number of examples, halved for good each time that they do not fit."""

    def __init__(self, examples: int) -> None:
        self.examples = examples

    def attempt(self, evaluate: Callable[[int], T]) -> T:
        """Return evaluate(examples), by fewer examples where the memory of the device does not suffice.

        Raises:
            torch.OutOfMemoryError: not even two examples fit.
        """
        while True:
            try:
                return evaluate(self.examples)
            except torch.OutOfMemoryError:
                if self.examples < 2 * FEWEST:
                    raise
            # out here the exception is gone, and with it the tensors of the batch that did not fit
            self.examples //= 2
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
