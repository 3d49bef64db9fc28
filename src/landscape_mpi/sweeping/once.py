"""Holds large tensors once a node: in memory that its ranks share, or as views of a file that each of them maps."""

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks.checkpoint import CHECKPOINT, Found, open_checkpoint
from landscape_mpi.networks.files import files_of, places, views

T = TypeVar("T")


def open_once(world: World, network: nn.Module, path: Path, entry: str | None) -> Found:
    """Return the tensors of a checkpoint by the network's names, which local rank 0 of each node finds; collective.

    The other ranks map the same places of the files. What cannot be mapped is held once in the node's memory: tensors
    of files from before the archives of torch.save, and those that hooks or transformers converted.

    Raises:
        UserError: as `open_checkpoint`, on every rank.
    """
    leads = world.local_rank == 0
    found = on_ranks(world, leads, open_checkpoint, network, path, CHECKPOINT, entry, mapped=True)
    if world.size == 1 and found:
        return found
    state, notes = (found.state, found.notes) if found else ({}, ())
    names = _of_node(world, list(state))
    files = together(world, files_of, path, CHECKPOINT)
    mapped = _of_node(world, on_ranks(world, leads, places, state, files) or {})
    others = {name: state.pop(name) for name in names if leads and name not in mapped}
    del found
    shared = share_tensors(world, others)
    if leads and shared:
        give_back_memory()
    there = together(world, views, {} if leads else mapped, files) | state
    return Found({name: shared[name] if name in shared else there[name] for name in names}, notes)


def share_tensors(world: World, mine: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of each node's local rank 0, held once in the node's memory; collective.

    `mine` is emptied, so that what nobody else holds is gone once it is copied. Tensors that are one stay one.
    """
    same: dict[tuple[object, ...], str] = {}
    firsts = {
        name: same.setdefault((t.data_ptr(), t.dtype, t.shape, t.stride()) if t.nbytes else (name,), name)
        for name, t in mine.items()
    }
    firsts, forms = _of_node(world, (firsts, {name: (mine[name].dtype, mine[name].shape) for name in firsts.values()}))
    arrays = [in_bytes(mine[name]) for name, (_, shape) in forms.items() if mine and shape.numel()]
    mine.clear()
    raw = iter(world.share(arrays))
    made = {
        name: torch.from_numpy(next(raw)).view(dtype).view(shape) if shape.numel() else torch.empty(shape, dtype=dtype)
        for name, (dtype, shape) in forms.items()
    }
    return {name: made[first] for name, first in firsts.items()}


def in_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a tensor, of which numpy may lack the dtype; a view of it where it is contiguous."""
    found: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _of_node(world: World, value: T) -> T:
    """Return the value of this node's local rank 0; collective."""
    known = world.allgather((world.host, value if world.local_rank == 0 else None))
    return next(found for host, found in known if host == world.host and found is not None)
