"""Planes through theta*: directions, their normalisation, points on them; knows nothing of MPI, HDF5 or data."""

from landscape_mpi.plane.directions import Parameters, RandomDirections, difference, scale_direction
from landscape_mpi.plane.plane import Plane
from landscape_mpi.plane.stored import Stored, fit_direction

__all__ = [
    "Parameters",
    "Plane",
    "RandomDirections",
    "Stored",
    "difference",
    "fit_direction",
    "scale_direction",
]
