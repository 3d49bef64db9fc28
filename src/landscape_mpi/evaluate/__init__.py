"""Evaluates a network at points of a plane: losses, other metrics and the running statistics of batch norm."""

from landscape_mpi.evaluate.batches import Batch, Examples, batches, parts
from landscape_mpi.evaluate.batchnorm import statistics_of
from landscape_mpi.evaluate.eager import EagerEvaluator
from landscape_mpi.evaluate.evaluator import (
    MODES,
    ONE_LANE,
    Evaluator,
    Lanes,
    MemberError,
    Names,
    Network,
    Point,
    Task,
    is_classes,
    lay_out,
    place,
)
from landscape_mpi.evaluate.first_batch import choose_layout, examples_that_fit, first_batch, mode_note
from landscape_mpi.evaluate.losses import OURS, Loss, as_classes, build_loss, prepared, with_loss_options
from landscape_mpi.evaluate.streamed import Streamed
from landscape_mpi.evaluate.summary import measure, summarise

__all__ = [
    "MODES",
    "ONE_LANE",
    "OURS",
    "Batch",
    "EagerEvaluator",
    "Evaluator",
    "Examples",
    "Lanes",
    "Loss",
    "MemberError",
    "Names",
    "Network",
    "Point",
    "Streamed",
    "Task",
    "as_classes",
    "batches",
    "build_loss",
    "choose_layout",
    "examples_that_fit",
    "first_batch",
    "is_classes",
    "lay_out",
    "measure",
    "mode_note",
    "parts",
    "place",
    "prepared",
    "statistics_of",
    "summarise",
    "with_loss_options",
]
