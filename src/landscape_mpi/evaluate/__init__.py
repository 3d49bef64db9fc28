"""Evaluates a network at points of a plane: losses, other metrics and the running statistics of batch norm."""

from landscape_mpi.evaluate.eager import EagerEvaluator
from landscape_mpi.evaluate.evaluator import (
    MODES,
    ONE_LANE,
    Batch,
    Evaluator,
    Lanes,
    MemberError,
    Names,
    Network,
    Point,
    Task,
    is_classes,
    lay_out,
    measure,
    place,
)
from landscape_mpi.evaluate.first_batch import choose_layout, examples_that_fit, first_batch, mode_note
from landscape_mpi.evaluate.losses import OURS, Loss, as_classes, build_loss, prepared, with_loss_options
from landscape_mpi.evaluate.streamed import Streamed

__all__ = [
    "MODES",
    "ONE_LANE",
    "OURS",
    "Batch",
    "EagerEvaluator",
    "Evaluator",
    "Lanes",
    "Loss",
    "MemberError",
    "Names",
    "Network",
    "Point",
    "Streamed",
    "Task",
    "as_classes",
    "build_loss",
    "choose_layout",
    "examples_that_fit",
    "first_batch",
    "is_classes",
    "lay_out",
    "measure",
    "mode_note",
    "place",
    "prepared",
    "with_loss_options",
]
