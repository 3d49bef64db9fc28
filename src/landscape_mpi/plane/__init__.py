"""Planes through theta*: directions, their normalisation, points on them. Knows nothing of MPI, HDF5 or data."""

from landscape_mpi.plane.counter import GENERATOR
from landscape_mpi.plane.course import Course
from landscape_mpi.plane.directions import (
    RandomDirections,
    Stored,
    difference,
    fit_direction,
    moved,
    scale_direction,
)
from landscape_mpi.plane.parameters import Parameters, feed
from landscape_mpi.plane.pca import Components, Matrix, Projection, Row, principal_components, project
from landscape_mpi.plane.plane import Plane

__all__ = [
    "GENERATOR",
    "Components",
    "Course",
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
