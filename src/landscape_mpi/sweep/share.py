"""One copy of the data a node: splits in memory that its ranks share; knows no data set."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.data import Split
from landscape_mpi.ranks import World


@dataclass(frozen=True)
class _Form:
    """How to make a split of two runs of bytes."""

    name: str
    notes: tuple[str, ...]
    dtypes: tuple[torch.dtype, torch.dtype]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    @staticmethod
    def of(split: Split) -> "_Form":
        tensors = split.inputs, split.targets
        dtypes, shapes = zip(*((tensor.dtype, tuple(tensor.shape)) for tensor in tensors), strict=True)
        return _Form(split.name, split.notes, dtypes, shapes)

    def split(self, inputs: NDArray[np.uint8], targets: NDArray[np.uint8]) -> Split:
        parts = [
            torch.from_numpy(raw).view(dtype).reshape(shape)
            for raw, dtype, shape in zip((inputs, targets), self.dtypes, self.shapes, strict=True)
        ]
        return Split(self.name, parts[0], parts[1], self.notes)


def share_splits(made: list[Split], world: World) -> list[Split]:
    """Return the splits that local rank 0 of each node made, held once in the node's memory; collective."""
    raw = [_bytes(tensor) for split in made for tensor in (split.inputs, split.targets)]
    shared = world.share(raw)
    forms = next(found for found in world.everywhere([_Form.of(split) for split in made]) if found)
    return [form.split(*pair) for form, pair in zip(forms, zip(shared[::2], shared[1::2], strict=True), strict=True)]


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """Return a tensor's bytes: numpy lacks some of torch's dtypes, and a window knows none."""
    raw: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return raw
