"""Many ranks computing one surface: coordination, devices, messages; the only package that knows MPI."""

from landscape_mpi.sweep.guard import guarded
from landscape_mpi.sweep.mpi import open_world
from landscape_mpi.sweep.run import Options, sweep

__all__ = ["Options", "guarded", "open_world", "sweep"]
