"""Trains theta* and writes a checkpoint for each epoch; a job is trained by one rank."""

from landscape_mpi.train.run import Options, initialise, train, train_jobs

__all__ = ["Options", "initialise", "train", "train_jobs"]
