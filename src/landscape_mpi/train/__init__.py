"""Trains theta* and leaves its trajectory of checkpoints; knows no MPI, no plane and no job file."""

from landscape_mpi.train.loop import initialise, train

__all__ = ["initialise", "train"]
