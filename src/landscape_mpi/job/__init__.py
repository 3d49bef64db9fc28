"""job.yaml -> frozen, checked values; knows nothing of torch, MPI or HDF5."""

from landscape_mpi.job.compare import difference, experiment, training_difference
from landscape_mpi.job.load import load_job, read_job, read_values
from landscape_mpi.job.planes import FilePlane, HessianPlane, InterpolatedPlane, PcaPlane, Plane, RandomPlane
from landscape_mpi.job.template import TEMPLATE
from landscape_mpi.job.training import Train
from landscape_mpi.job.values import (
    FROM_PYTHON,
    GIVEN,
    Axis,
    ChannelNormalisation,
    Data,
    Grid,
    Hessian,
    JobFile,
    Model,
    Sampling,
    SweepJob,
    TrainJob,
)

__all__ = [
    "FROM_PYTHON",
    "GIVEN",
    "TEMPLATE",
    "Axis",
    "ChannelNormalisation",
    "Data",
    "FilePlane",
    "Grid",
    "Hessian",
    "HessianPlane",
    "InterpolatedPlane",
    "JobFile",
    "Model",
    "PcaPlane",
    "Plane",
    "RandomPlane",
    "Sampling",
    "SweepJob",
    "Train",
    "TrainJob",
    "difference",
    "experiment",
    "load_job",
    "read_job",
    "read_values",
    "training_difference",
]
