"""Many ranks computing one surface, from job to file: the order of the steps, and how a run ends."""

from landscape_mpi.sweeping.guard import guarded
from landscape_mpi.sweeping.run import Options, sweep

__all__ = ["Options", "guarded", "sweep"]
