"""Loads inputs and targets as tensors: CIFAR-10, shapes10 or a user's own data."""

from landscape_mpi.data.cifar import fetch_cifar10
from landscape_mpi.data.load import load_split
from landscape_mpi.data.split import DEFAULT_NORMALISATION, Normalisation, Rows, Split

__all__ = ["DEFAULT_NORMALISATION", "Normalisation", "Rows", "Split", "fetch_cifar10", "load_split"]
