"""What one rank has made and others need too: splits, held once a node, and directions; knows no data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape_mpi.data import Rows, Split
from landscape_mpi.data.split import tensors
from landscape_mpi.mpi.world import World
from landscape_mpi.plane import Parameters


@dataclass(frozen=True)
class _Form:
    """How to make rows of runs of bytes: of each tensor its name, dtype and shape."""

    single: bool
    parts: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]

    @staticmethod
    def of(rows: Rows) -> "_Form":
        parts = tuple((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors(rows).items())
        return _Form(isinstance(rows, Tensor), parts)

    def rows(self, raw: Iterator[NDArray[np.uint8]]) -> Rows:
        """Take as many runs of bytes as there are tensors."""
        made = {name: torch.from_numpy(next(raw)).view(dtype).reshape(shape) for name, dtype, shape in self.parts}
        return made[""] if self.single else made


def share_splits(made: list[Split], world: World) -> list[Split]:
    """Return the splits that local rank 0 of each node made, held once in the node's memory; collective."""
    raw = [_bytes(tensor) for split in made for rows in _both(split) for tensor in tensors(rows).values()]
    shared = iter(world.share(raw))
    forms = [(split.name, split.notes, tuple(map(_Form.of, _both(split)))) for split in made]
    known = next(found for found in world.allgather(forms) if found)
    return [Split(name, inputs.rows(shared), targets.rows(shared), notes) for name, notes, (inputs, targets) in known]


def _both(split: Split) -> tuple[Rows, Rows]:
    return split.inputs, split.targets


def share_parameters(mine: Parameters | None, names: Sequence[str], world: World) -> Parameters:
    """Return the parameters that rank 0 holds, on every rank, one at a time: a message has at most 2 GB; collective."""
    return {name: world.bcast(mine[name] if mine else torch.empty(0)) for name in names}


def _bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """Return a tensor's bytes: numpy lacks some of torch's dtypes, and a window knows none."""
    raw: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return raw
