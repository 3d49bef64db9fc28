"""The surface file: what is in it, how it is made, written and read; the only package that knows HDF5."""

from landscape_mpi.surface.create import check_writable, create_surface
from landscape_mpi.surface.directions import read_directions
from landscape_mpi.surface.lock import lock_surface
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import DONE, FAILED, NOT_YET, Direction, NewSurface, Record, result_names
from landscape_mpi.surface.write import Writer, hdf5_version, open_writer, seal

__all__ = [
    "DONE",
    "FAILED",
    "NOT_YET",
    "Direction",
    "NewSurface",
    "Record",
    "Surface",
    "Writer",
    "check_writable",
    "create_surface",
    "hdf5_version",
    "lock_surface",
    "open_writer",
    "read_directions",
    "read_surface",
    "result_names",
    "seal",
]
