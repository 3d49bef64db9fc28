"""Finds the permutations of one network's units that bring its weights nearest to another's.

Weight matching of S. K. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin: Merging Models modulo Permutation
Symmetries" (ICLR 2023, arXiv:2209.04836), section 3.2: coordinate descent, one linear assignment problem for each group
of units, on the sum of the products of all weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape_mpi.align.assignment import assign
from landscape_mpi.align.axes import Group
from landscape_mpi.align.structure import Piece, Structure

MOST_SWEEPS = 100
GAIN = 1e-12
"""The least gain of a step, as a share of the largest possible gain: rounding gains less."""
Permutations = dict[Group, Tensor]


@dataclass(frozen=True)
class Match:
    """Permutations of a network's units, and the distances before and after them.

    Attributes:
        structure: of the network.
        permutations: int64 [n] for each group: which unit of the network is put at each place.
        before: distance between the weights of the two networks, over all parts that have units to permute.
        after: the same distance for the permuted network.
    """

    structure: Structure
    permutations: Permutations
    before: float
    after: float

    @property
    def moved(self) -> int:
        """How many units are put at another place."""
        return sum(int((p != torch.arange(len(p))).sum()) for p in self.permutations.values())

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of the network with permuted units; tensors without units stay as they are."""
        return {name: self._permuted(name, tensor) for name, tensor in state.items()}

    def _permuted(self, name: str, tensor: Tensor) -> Tensor:
        if not any(self.structure.axes.get(name, ())):
            return tensor
        result = tensor.clone()
        for piece in self.structure.pieces(name):
            result[piece.index] = permuted(piece.of(tensor), piece, self.permutations).reshape(piece.index[0].shape)
        return result


def match(structure: Structure, theta: Mapping[str, Tensor], other: Mapping[str, Tensor], seed: int = 0) -> Match:
    """Return the permutations that bring the weights of `other` near to those of `theta`: a local optimum.

    Args:
        structure: The structure of both networks.
        theta: The weights to match, on the CPU.
        other: The same weights of the network to be permuted.
        seed: The seed of the order in which each sweep takes the groups.
    """
    parts = [
        _Part(piece, piece.of(theta[name]).double(), piece.of(other[name]).double())
        for name in theta
        if name in structure.axes
        for piece in structure.pieces(name)
        if any(isinstance(atom, Group) for atom in piece.atoms)
    ]
    groups = structure.groups
    known: Permutations = {group: torch.arange(group.size) for group in groups}
    squares = sum((part.theta.square().sum() + part.other.square().sum()).item() for part in parts)
    least = GAIN * squares / 2
    having = {group: [part for part in parts if group in part.piece.atoms] for group in groups}
    generator = torch.Generator().manual_seed(seed)
    start = _products(parts, known)
    for _ in range(MOST_SWEEPS):
        improved = False
        for place in torch.randperm(len(groups), generator=generator).tolist():
            group = groups[place]
            before = _products(having[group], known)
            found = torch.from_numpy(assign(_gains(group, having[group], known).numpy())[0])
            # a group along two axes of one tensor makes the problem quadratic: its linear part may make the sum smaller
            if _products(having[group], {**known, group: found}) > before + least:
                known[group], improved = found, True
        if not improved:
            break
    end = _products(parts, known)
    return Match(structure, known, *(max(squares - 2 * one, 0.0) ** 0.5 for one in (start, end)))


@dataclass(frozen=True)
class _Part:
    """A part of a tensor in both networks, float64."""

    piece: Piece
    theta: Tensor
    other: Tensor


def permuted(tensor: Tensor, piece: Piece, permutations: Permutations, but: int = -1) -> Tensor:
    """Return a part of a tensor with permuted units, except those along the dimension `but`."""
    for place, atom in enumerate(piece.atoms):
        if isinstance(atom, Group) and place != but:
            tensor = tensor.index_select(place, permutations[atom])
    return tensor


def _products(parts: list[_Part], known: Permutations) -> float:
    """Return the inner product of theta and the permuted network over some parts."""
    return sum((part.theta * permuted(part.other, part.piece, known)).sum().item() for part in parts)


def _gains(group: Group, parts: list[_Part], known: Permutations) -> Tensor:
    """Return the products [n, n] that each unit of the network gives at each place while all else stays as it is."""
    total = torch.zeros(group.size, group.size, dtype=torch.float64)
    for part in parts:
        for place, atom in enumerate(part.piece.atoms):
            if atom == group:
                there = permuted(part.other, part.piece, known, but=place)
                total += _rows(part.theta, place) @ _rows(there, place).T
    return total


def _rows(tensor: Tensor, place: int) -> Tensor:
    return tensor.movedim(place, 0).flatten(1) if tensor.dim() > 1 else tensor[:, None]
