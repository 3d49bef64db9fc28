"""Holds tensors once per node: in memory that its ranks share, or as views of a file that each of them maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from landscape_mpi.assemble import give_back_memory
from landscape_mpi.data import Rows, Split
from landscape_mpi.data.split import tensors
from landscape_mpi.mpi.world import World, on_ranks, together
from landscape_mpi.networks.checkpoint import CHECKPOINT, Found, open_checkpoint
from landscape_mpi.networks.files import files_of, places, views
from landscape_mpi.plane import Parameters, Plane
from landscape_mpi.plane.parameters import real, single, standing, stays

T = TypeVar("T")


def open_once(world: World, network: nn.Module, path: Path, entry: str | None) -> Found:
    """Return the tensors of a checkpoint by the network's names, which local rank 0 of each node finds; collective.

    The other ranks map the same places of the files. What cannot be mapped is held once in the node's memory: tensors
    of files older than the archives of torch.save, and tensors that hooks or transformers converted.

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

    `mine` is emptied, so that a tensor that nothing else holds is freed once it is copied. Names that stand for one
    tensor still stand for one tensor afterwards.
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


def share_splits(made: list[Split], world: World) -> list[Split]:
    """Return the splits that local rank 0 of each node made, held once in the node's memory; collective."""
    rows = [(split.inputs, split.targets) for split in made]
    shared = iter(world.share([in_bytes(tensor) for pair in rows for one in pair for tensor in tensors(one).values()]))
    forms = [(split.name, split.notes, tuple(map(_Form.of, pair))) for split, pair in zip(made, rows, strict=True)]
    known = next(found for found in world.allgather(forms) if found)
    return [Split(name, inputs.rows(shared), targets.rows(shared), notes) for name, notes, (inputs, targets) in known]


@dataclass(frozen=True)
class _Form:
    """Makes rows from bytes, by the name, dtype and shape of each of their tensors; `single`: they are one tensor."""

    single: bool
    parts: tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]

    @staticmethod
    def of(rows: Rows) -> "_Form":
        parts = tuple((name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors(rows).items())
        return _Form(isinstance(rows, Tensor), parts)

    def rows(self, raw: Iterator[NDArray[np.uint8]]) -> Rows:
        """Return the rows, having taken as many arrays of bytes as there are tensors."""
        made = {name: torch.from_numpy(next(raw)).view(dtype).reshape(shape) for name, dtype, shape in self.parts}
        return made[""] if self.single else made


def share_plane(world: World, made: Plane | None, theta: Parameters) -> Plane:
    """Return the plane that local rank 0 of each node made, whose directions are held once in the node's memory.

    Collective. The buffers that move along are small, and every rank has them.
    """
    moving = [(i, name) for i, d in enumerate(made.directions) for name in d if not stays(d[name])] if made else []
    arrays = [real(single(made.directions[i][name])).contiguous().numpy() for i, name in moving] if made else []
    axes, forms, statistics = next(
        found for found in world.allgather((len(made.directions), moving, made.statistics) if made else None) if found
    )
    directions = [{name: standing(tensor) for name, tensor in theta.items()} for _ in range(axes)]
    for (i, name), array in zip(forms, world.share(arrays), strict=True):
        numbers = torch.from_numpy(array).view(real(theta[name]).shape)
        directions[i][name] = torch.view_as_complex(numbers) if theta[name].is_complex() else numbers
    return Plane(theta, tuple(directions), statistics)


def share_parameters(
    mine: Parameters | None, names: Sequence[str], world: World, *, here: bool = True
) -> dict[str, Tensor]:
    """Return the parameters that rank 0 holds, on the ranks where `here` is true, nothing elsewhere; collective.

    They are sent one at a time: a message has at most 2 GB.
    """
    sent = ((name, world.bcast(mine[name] if mine else torch.empty(0))) for name in names)
    return {name: tensor for name, tensor in sent if here}


def in_bytes(tensor: Tensor) -> NDArray[np.uint8]:
    """Return the bytes of a tensor, whose dtype numpy may lack; they are a view of it where it is contiguous."""
    found: NDArray[np.uint8] = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return found


def _of_node(world: World, value: T) -> T:
    """Return the value of this node's local rank 0; collective."""
    known = world.allgather((world.host, value if world.local_rank == 0 else None))
    return next(found for host, found in known if host == world.host and found is not None)
