"""Many ranks computing one surface, from job to file: the order of the steps, and how a run ends."""

from landscape_mpi.sweeping.exit import guarded, or_none
from landscape_mpi.sweeping.run import Options, sweep, sweep_job

__all__ = ["Options", "guarded", "or_none", "sweep", "sweep_job"]
