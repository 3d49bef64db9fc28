"""Cuts examples into batches, and halves a batch that does not fit into memory."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar("T")
Images = slice | NDArray[np.int64]
"""Images of a split: consecutive ones, or their numbers [n] in any order."""
FEWEST_ROWS = 16
"""Fewer rows take other paths through the libraries of matrix products, which round differently."""
FEWEST = 2
"""A batch of one takes another path through the convolution library: see `batches`."""


def batches(images: int, batch: int) -> Iterator[slice]:
    """Cut `images` into batches; a last one of fewer than 16 (or than `batch`) joins the one before it.

    A batch of one differs most, by another way to convolve, and few rows by another way to multiply matrices. On some
    CPUs any number of rows may change a last bit, which is why the batch is fixed with the surface file. What is cut
    at a multiple of the batch first, and then into batches, makes the same batches.
    """
    fewest = min(batch, FEWEST_ROWS)
    start = 0
    while start < images:
        stop = min(start + batch, images)
        if images - stop < fewest:
            stop = images
        yield slice(start, stop)
        start = stop


def parts(images: Images, count: int, batch: int) -> Iterator[Images]:
    """Cut some of a split's `count` images into batches."""
    if isinstance(images, slice):
        first, last, _ = images.indices(count)
        return (slice(first + cut.start, first + cut.stop) for cut in batches(last - first, batch))
    return (images[cut] for cut in batches(len(images), batch))


def rows(tensor: Tensor, images: Images) -> Tensor:
    """Return the rows of a tensor [n, ...] that belong to some images: a view of consecutive ones, else a copy."""
    return tensor[images if isinstance(images, slice) else torch.from_numpy(images).to(tensor.device)]


class Batch:
    """A number of images, halved for good each time that they do not fit."""

    def __init__(self, images: int) -> None:
        self.images = images

    def attempt(self, evaluate: Callable[[int], T]) -> T:
        """Return evaluate(images), by fewer images where the memory of the device does not suffice.

        Raises:
            torch.OutOfMemoryError: not even two images fit.
        """
        while True:
            try:
                return evaluate(self.images)
            except torch.OutOfMemoryError:
                if self.images < 2 * FEWEST:
                    raise
            # out here the exception is gone, and with it the tensors of the batch that did not fit
            self.images //= 2
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
