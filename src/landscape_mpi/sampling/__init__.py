"""Estimates a surface from a fraction of the examples, with error bars."""

from landscape_mpi.sampling.audit import Audit, Verdict, judge, points_to_audit
from landscape_mpi.sampling.order import Frame, in_order, make_frame
from landscape_mpi.sampling.plan import Promotion, all_examples_because, prefixes, relative_bars
from landscape_mpi.sampling.rise import first_that_holds, pilot_points, rise_sizes
from landscape_mpi.sampling.rounds import Estimated, Request, Rounds, run

__all__ = [
    "Audit",
    "Estimated",
    "Frame",
    "Promotion",
    "Request",
    "Rounds",
    "Verdict",
    "all_examples_because",
    "first_that_holds",
    "in_order",
    "judge",
    "make_frame",
    "pilot_points",
    "points_to_audit",
    "prefixes",
    "relative_bars",
    "rise_sizes",
    "run",
]
