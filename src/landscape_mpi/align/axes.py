"""Describes an axis of a tensor by the groups of units along it, and finds groups that have to be permuted alike.

An axis is a product of parts, row-major as in `Tensor.view`. A part is a group, whose units may be permuted; fixed
places, such as pixels, tokens and classes; or a chain: parts of an axis that lie one after the other, as after
`torch.cat`. A part that is not understood can always be made fixed: the identity is a permutation too.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Group:
    """Units that may be permuted; all axes that have the group are permuted alike."""

    number: int
    size: int


@dataclass(frozen=True)
class Fixed:
    """Places that stay."""

    size: int


@dataclass(frozen=True)
class Chain:
    """Axes that lie one after the other along one axis."""

    parts: "tuple[Axis, ...]"

    @property
    def size(self) -> int:
        """The number of units of all parts."""
        return sum(map(size, self.parts))


Atom: TypeAlias = Group | Fixed | Chain
Axis: TypeAlias = tuple[Atom, ...]
"""A product of atoms; it is empty for an axis of one place."""
Block: TypeAlias = tuple[NDArray[np.intp], tuple[Group | Fixed, ...]]
"""Places along an axis, in the shape of a product of groups and fixed places."""


def size(axis: Axis) -> int:
    """Return the number of places along an axis.

    >>> size((Group(0, 3), Fixed(4)))
    12
    """
    return math.prod(atom.size for atom in axis)


def fixed(count: int) -> Axis:
    """Return an axis of places that stay."""
    return () if count == 1 else (Fixed(count),)


def groups(axis: Axis) -> Iterator[Group]:
    """Yield the groups of an axis."""
    for atom in axis:
        if isinstance(atom, Group):
            yield atom
        elif isinstance(atom, Chain):
            for part in atom.parts:
                yield from groups(part)


def blocks(axis: Axis) -> list[Block]:
    """Return the places along an axis as blocks, products without chains: each place is in one block.

    >>> [(places.tolist(), atoms) for places, atoms in blocks((Chain(((Group(0, 2),), (Fixed(1),))),))]
    [([0, 1], (Group(number=0, size=2),)), ([2], (Fixed(size=1),))]
    """
    found: list[Block] = [(np.zeros((), np.intp), ())]
    for atom in axis:
        if isinstance(atom, Chain):
            starts = np.cumsum([0, *map(size, atom.parts)])
            inner = [
                (places + start, atoms)
                for part, start in zip(atom.parts, starts, strict=False)
                for places, atoms in blocks(part)
            ]
        else:
            inner = [(np.arange(atom.size), (atom,))]
        found = [
            (np.add.outer(before * atom.size, places), (*first, *atoms))
            for before, first in found
            for places, atoms in inner
        ]
    return found


class Equations:
    """Groups that turned out to be one group, or to consist of other groups, as the forward pass relates axes."""

    def __init__(self) -> None:
        self._values: dict[Group, Axis] = {}
        self._count = 0

    def fresh(self, count: int) -> Axis:
        """Return an axis of a new group."""
        if count <= 1:
            return fixed(count)
        self._count += 1
        return (Group(self._count, count),)

    def resolve(self, axis: Axis) -> Axis:
        """Return an axis in terms of groups about which nothing more is known."""
        found: list[Atom] = []
        for atom in axis:
            if isinstance(atom, Group) and atom in self._values:
                found += self.resolve(self._values[atom])
            elif isinstance(atom, Chain):
                found += self.chain(atom.parts)
            else:
                found.append(atom)
        merged: list[Atom] = []
        for atom in found:
            last = merged[-1] if merged else None
            if isinstance(atom, Fixed) and isinstance(last, Fixed):
                merged[-1] = Fixed(last.size * atom.size)
            else:
                merged.append(atom)
        return tuple(merged)

    def chain(self, parts: Sequence[Axis]) -> Axis:
        """Return the axis along which the parts lie one after the other."""
        flat: list[Axis] = []
        for part in map(self.resolve, parts):
            only = part[0] if len(part) == 1 else None
            for one in only.parts if isinstance(only, Chain) else (part,):
                still = not any(groups(one))
                if still and flat and not any(groups(flat[-1])):
                    flat[-1] = (Fixed(size(flat[-1]) + size(one)),)
                elif size(one):
                    flat.append((Fixed(size(one)),) if still else one)
        if len(flat) == 1:
            return flat[0] if size(flat[0]) != 1 else ()
        return (Chain(tuple(flat)),) if flat else (Fixed(0),)

    def freeze(self, axis: Axis) -> Axis:
        """Let all units of an axis stay, and return it."""
        for group in list(groups(self.resolve(axis))):
            self._values[group] = (Fixed(group.size),)
        return fixed(size(axis))

    def unify(self, one: Axis, other: Axis) -> Axis:
        """Let two axes of the same size be permuted alike, and return either of them."""
        whole, a, b = one, self.resolve(one), self.resolve(other)
        while a and b and a != b:
            x, y = a[0], b[0]
            if x.size == y.size:
                self._same(x, y)
                a, b = self.resolve(a[1:]), self.resolve(b[1:])
                continue
            large, small = (a, b) if x.size > y.size else (b, a)
            parts = self._cut_product(large[0], small[0].size)
            if parts is None:
                self.freeze(a)
                self.freeze(b)
                break
            a, b = (*parts, *large[1:]), small
        return self.resolve(whole)

    def split(self, axis: Axis, sizes: Sequence[int]) -> list[Axis]:
        """Return the axes that `Tensor.view` makes of an axis; all units stay where the cuts do not fit its parts."""
        left, found = list(self.resolve(axis)), []
        for wanted in sizes:
            mine: list[Atom] = []
            while (more := wanted // math.prod(atom.size for atom in mine)) > 1 and left:
                atom = left.pop(0)
                if atom.size > more:
                    parts = self._cut_product(atom, more)
                    if parts is None:
                        break
                    atom, rest = parts
                    left.insert(0, rest)
                mine.append(atom)
            if math.prod(atom.size for atom in mine) != wanted:
                self.freeze(axis)
                return [fixed(count) for count in sizes]
            found.append(self.resolve(tuple(mine)))
        return [self.resolve(one) for one in found]

    def cut(self, axis: Axis, lengths: Sequence[int]) -> list[Axis]:
        """Return the axes of consecutive pieces of an axis; all units stay where the cuts do not fit its parts."""
        axis = self.resolve(axis)
        rest = axis[1:]
        inner = size(rest)
        if axis and inner and all(length % inner == 0 for length in lengths):
            parts = self._cut_chain(axis[0], [length // inner for length in lengths])
            return [self.resolve((*part, *rest)) for part in parts]
        self.freeze(axis)
        return [fixed(length) for length in lengths]

    def _cut_chain(self, atom: Atom, lengths: Sequence[int]) -> list[Axis]:
        if isinstance(atom, Fixed):
            return [fixed(length) for length in lengths]
        if isinstance(atom, Group):
            parts = [self.fresh(length) for length in lengths]
            self._values[atom] = (Chain(tuple(parts)),)
            return parts
        waiting, found = list(atom.parts), []
        for length in lengths:
            mine: list[Axis] = []
            while (more := length - sum(map(size, mine))) > 0:
                part = waiting.pop(0)
                if size(part) > more:
                    part, left = self.cut(part, (more, size(part) - more))
                    waiting.insert(0, left)
                mine.append(part)
            found.append(self.chain(mine))
        return found

    def _cut_product(self, atom: Atom, outer: int) -> tuple[Atom, Atom] | None:
        """Return an atom as a product of two, the outer one of size `outer`; None where that is impossible."""
        if isinstance(atom, Chain) or not outer or atom.size % outer:
            return None
        inner = atom.size // outer
        if isinstance(atom, Fixed):
            return Fixed(outer), Fixed(inner)
        (first,), (second,) = self.fresh(outer), self.fresh(inner)
        self._values[atom] = (first, second)
        return first, second

    def _same(self, one: Atom, other: Atom) -> None:
        if isinstance(one, Chain) and isinstance(other, Chain):
            ends = [np.cumsum([size(part) for part in chain.parts]).tolist() for chain in (one, other)]
            lengths = np.diff([0, *sorted({*ends[0], *ends[1]})]).tolist()
            for a, b in zip(self.cut((one,), lengths), self.cut((other,), lengths), strict=True):
                self.unify(a, b)
        elif isinstance(one, Group) and one not in groups((other,)):
            self._values[one] = (other,)
        elif isinstance(other, Group) and other not in groups((one,)):
            self._values[other] = (one,)
        elif one != other:
            self.freeze((one,))
            self.freeze((other,))
