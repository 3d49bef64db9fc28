"""Trains theta* and leaves its trajectory of checkpoints, each job whole on one rank; knows no plane."""

from landscape_mpi.train.loop import initialise, train
from landscape_mpi.train.run import Options, train_jobs

__all__ = ["Options", "initialise", "train", "train_jobs"]
