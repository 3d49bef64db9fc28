"""What notebooks and scripts call: a sweep of objects, and the surface it gives; knows no command line."""

from landscape_mpi.api.run import sweep
from landscape_mpi.api.surface import Surface, open_surface

__all__ = ["Surface", "open_surface", "sweep"]
