"""The same surface from a fraction of the images, with error bars; knows arrays: no network, no ranks, no files."""

from landscape_mpi.sampling.audit import Verdict, judge, points_to_audit
from landscape_mpi.sampling.levels import all_images_because
from landscape_mpi.sampling.order import Frame, make_frame
from landscape_mpi.sampling.plan import Promotion, relative_bars
from landscape_mpi.sampling.rounds import AtOrigin, Estimated, Request, Rounds, run

__all__ = [
    "AtOrigin",
    "Estimated",
    "Frame",
    "Promotion",
    "Request",
    "Rounds",
    "Verdict",
    "all_images_because",
    "judge",
    "make_frame",
    "points_to_audit",
    "relative_bars",
    "run",
]
