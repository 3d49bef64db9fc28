"""(plane, point, images) -> losses and accuracy; knows nothing of MPI, HDF5 or job files."""

from landscape_mpi.evaluate.batchnorm import statistics_of
from landscape_mpi.evaluate.eager import EagerEvaluator
from landscape_mpi.evaluate.evaluator import (
    ONE_LANE,
    Evaluator,
    Lanes,
    Names,
    Network,
    PerImage,
    Point,
    Task,
    is_classes,
    lay_out,
)
from landscape_mpi.evaluate.images import Images, batches, parts
from landscape_mpi.evaluate.layout import choose_layout
from landscape_mpi.evaluate.losses import OURS, Loss, build_loss
from landscape_mpi.evaluate.memory import Batch
from landscape_mpi.evaluate.summary import measure, summarise

__all__ = [
    "ONE_LANE",
    "OURS",
    "Batch",
    "EagerEvaluator",
    "Evaluator",
    "Images",
    "Lanes",
    "Loss",
    "Names",
    "Network",
    "PerImage",
    "Point",
    "Task",
    "batches",
    "build_loss",
    "choose_layout",
    "is_classes",
    "lay_out",
    "measure",
    "parts",
    "statistics_of",
    "summarise",
]
