"""Whether a surface is of the same experiment as a job or as another surface; reads no file."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.job import Axis, Grid, JobFile, SweepJob, difference, read_job
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.registry import asked
from landscape_mpi.surface.centre import CENTRE, WHY, other_network
from landscape_mpi.surface.read import Surface

FINGERPRINTS = {
    "checkpoint_sha256": ("model.checkpoint", "another checkpoint"),
    "data_sha256": ("data", "other images or targets"),
    "plane_sha256": ("plane", "other directions"),
    "trajectory_sha256": ("plane.trajectory", "other checkpoints, or none"),
}


def job_of(surface: Surface) -> JobFile[SweepJob]:
    """Return the job that a surface was begun with; a grid that was left to the trajectory is the one chosen then.

    Raises:
        UserError: it holds no job, or none that this version reads.
    """
    if surface.job is None:
        raise UserError("", f"{surface.path} was not written by landscape_mpi", remedy="name another file")
    job = read_job(surface.job, surface.path, SweepJob)
    return job.with_grid(_grid(surface)) if job.values.grid is None else job


def metrics_of(surface: Surface) -> tuple[Metric, ...]:
    """Return the metrics that a surface holds results of. Raises as `job_of`."""
    return asked(job_of(surface).values.metrics)


def _grid(surface: Surface) -> Grid:
    return Grid(alpha=_axis(surface.alpha), beta=None if surface.beta is None else _axis(surface.beta))


def _axis(coordinates: NDArray[np.float64]) -> Axis:
    return Axis(float(coordinates[0]), float(coordinates[-1]), len(coordinates))


def first_difference(surface: Surface, job: SweepJob, fingerprints: Mapping[str, object]) -> str | None:
    """Return in which key the experiment of a surface differs first; None for the same experiment."""
    if key := difference(job_of(surface).values, job):
        return key
    for name, (key, what) in FINGERPRINTS.items():
        if surface.attributes.get(name) != fingerprints.get(name):
            return f"{key}: it was made from {what} ({name} differs)"
    reason = other_network(surface.attributes.get(CENTRE), fingerprints.get(CENTRE), job.evaluate.dtype)
    return reason and f"{reason}; {WHY}"
