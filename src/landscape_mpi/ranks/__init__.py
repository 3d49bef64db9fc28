"""Ranks, messages, and who computes which point; the only package that knows MPI, and it knows no network."""

from landscape_mpi.ranks.coordinate import Index
from landscape_mpi.ranks.loop import PointError, compute_points
from landscape_mpi.ranks.mpi import library_version, open_world
from landscape_mpi.ranks.world import RankError, Solo, World, failure_text, on_root, tell, together

__all__ = [
    "Index",
    "PointError",
    "RankError",
    "Solo",
    "World",
    "compute_points",
    "failure_text",
    "library_version",
    "on_root",
    "open_world",
    "tell",
    "together",
]
