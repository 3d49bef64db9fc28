"""Planes through theta*: directions, their normalisation, points on them; knows nothing of MPI, HDF5 or data."""

from landscape_mpi.plane.counter import GENERATOR
from landscape_mpi.plane.directions import Parameters, RandomDirections, difference, moved, scale_direction
from landscape_mpi.plane.pca import Components, principal_components
from landscape_mpi.plane.plane import Plane, feed
from landscape_mpi.plane.project import Projection, project
from landscape_mpi.plane.rows import Matrix, Row
from landscape_mpi.plane.stored import Stored, fit_direction

__all__ = [
    "GENERATOR",
    "Components",
    "Matrix",
    "Parameters",
    "Plane",
    "Projection",
    "RandomDirections",
    "Row",
    "Stored",
    "difference",
    "feed",
    "fit_direction",
    "moved",
    "principal_components",
    "project",
    "scale_direction",
]
