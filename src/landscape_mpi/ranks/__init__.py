"""Ranks, messages, and who does which piece of work; the only package that knows MPI, and all that it knows."""

from landscape_mpi.ranks.coordinate import PieceError
from landscape_mpi.ranks.dispenser import Handlers
from landscape_mpi.ranks.loop import HEARD, share_out
from landscape_mpi.ranks.mpi import is_started, library_version, open_world, world_if_started
from landscape_mpi.ranks.world import RankError, Solo, World, failure_text, noter, on_root, tell, to_stderr, together

__all__ = [
    "HEARD",
    "Handlers",
    "PieceError",
    "RankError",
    "Solo",
    "World",
    "failure_text",
    "is_started",
    "library_version",
    "noter",
    "on_root",
    "open_world",
    "share_out",
    "tell",
    "to_stderr",
    "together",
    "world_if_started",
]
