"""The Python API: `sweep` computes a surface from a network, data and a loss; `open_surface` reads one from a file."""

from landscape_mpi.api.run import sweep
from landscape_mpi.api.surface import Surface, open_surface

__all__ = ["Surface", "open_surface", "sweep"]
