"""Permutes the units of one network to match those of another, so that a line between the two means something.

`structure.py` finds which axes of which tensors share a permutation, `matching.py` finds the permutations.
"""

from landscape_mpi.align.matching import Match, match
from landscape_mpi.align.structure import Structure, UnknownStructureError, structure_of

__all__ = ["Match", "Structure", "UnknownStructureError", "match", "structure_of"]
