"""Creates, writes, reads, merges and describes surface files, and reads those of other tools."""

from landscape_mpi.files.atomic import lock_surface
from landscape_mpi.surface.directions import read_directions
from landscape_mpi.surface.journal import (
    THETA,
    Evaluated,
    Journal,
    Kind,
    discard_early,
    journal_folder,
    products_folder,
    read_early,
    read_journals,
    read_pilots,
)
from landscape_mpi.surface.plan import Plan, PlanLog, begin_plan, discard, read_plan
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import (
    DONE,
    FAILED,
    NOT_YET,
    AuditResult,
    NewSurface,
    Record,
    Rows,
    check_replaceable,
    check_writable,
    create_surface,
)
from landscape_mpi.surface.shards import Shard, coarse_to_fine, parse_shard
from landscape_mpi.surface.training import Trajectory
from landscape_mpi.surface.write import WholeWriter, Writer, fitting, hdf5_version, open_writer, seal

__all__ = [
    "DONE",
    "FAILED",
    "NOT_YET",
    "THETA",
    "AuditResult",
    "Evaluated",
    "Journal",
    "Kind",
    "NewSurface",
    "Plan",
    "PlanLog",
    "Record",
    "Rows",
    "Shard",
    "Surface",
    "Trajectory",
    "WholeWriter",
    "Writer",
    "begin_plan",
    "check_replaceable",
    "check_writable",
    "coarse_to_fine",
    "create_surface",
    "discard",
    "discard_early",
    "fitting",
    "hdf5_version",
    "journal_folder",
    "lock_surface",
    "open_writer",
    "parse_shard",
    "products_folder",
    "read_directions",
    "read_early",
    "read_journals",
    "read_pilots",
    "read_plan",
    "read_surface",
    "seal",
]
