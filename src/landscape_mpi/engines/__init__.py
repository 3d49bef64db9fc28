"""Engines: ways to evaluate points of a plane, which agree up to rounding and differ in speed."""

from landscape_mpi.engines.cuda_graphs import LANES, lanes_of
from landscape_mpi.engines.evaluator import (
    DELETED,
    ENGINES,
    FusedEvaluator,
    ReplayedEvaluator,
    build_engine,
    candidates,
    kernel_is_missing,
)
from landscape_mpi.engines.layers import kernel_version
from landscape_mpi.engines.trace import CannotFuseError

__all__ = [
    "DELETED",
    "ENGINES",
    "LANES",
    "CannotFuseError",
    "FusedEvaluator",
    "ReplayedEvaluator",
    "build_engine",
    "candidates",
    "kernel_is_missing",
    "kernel_version",
    "lanes_of",
]
