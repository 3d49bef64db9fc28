"""How many images go through a network at once: half as many where the memory ran out. Knows no network."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")
FEWEST = 2
"""A batch of one takes another path through the convolution library: see `evaluator.batches`."""


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
