"""Builds the plane of each repeat of a job by its kind, and says what identifies the surface on it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from landscape_mpi.job import (
    CurvePlane,
    FilePlane,
    Grid,
    HessianPlane,
    InterpolatedPlane,
    JobFile,
    PcaPlane,
    RandomPlane,
    SweepJob,
    WorstPlane,
)
from landscape_mpi.job import Plane as Section
from landscape_mpi.log import note
from landscape_mpi.mpi.world import World, on_ranks, on_root, together
from landscape_mpi.plane import Plane
from landscape_mpi.surface import Shard
from landscape_mpi.surface.identity import Identity, centre_text
from landscape_mpi.sweeping.load import Experiment, agreed
from landscape_mpi.sweeping.once import share_plane
from landscape_mpi.sweeping.planes import Built, Request, curve, hessian, interpolate, pca, random, stored, worst
from landscape_mpi.sweeping.planes.reach import choose_grid
from landscape_mpi.sweeping.planes.trajectory import find_run, holding, place

BUILDERS: Mapping[type[Section], Callable[[Any, Request], Built]] = {
    RandomPlane: random.build,
    InterpolatedPlane: interpolate.build,
    CurvePlane: curve.build,
    PcaPlane: pca.build,
    HessianPlane: hessian.build,
    WorstPlane: worst.build,
    FilePlane: stored.build,
}
"""The builder for each kind's section of a job; collective, with the same plane on every rank."""


def repeats(job: SweepJob) -> int:
    """Return how many planes the job asks for."""
    return job.plane.repeats if isinstance(job.plane, RandomPlane) else 1


def output_path(job: JobFile[SweepJob], repeat: int) -> Path:
    """Return where the surface of a repeat goes: NAME.h5, or NAME.rK.h5 where there are several."""
    path = job.resolve(job.values.output.file)
    return path if repeats(job.values) == 1 else path.with_name(f"{path.stem}.r{repeat}{path.suffix}")


def build_plane(
    world: World,
    experiment: Experiment,
    repeat: int,
    known: Path | None,
    *,
    search: bool = True,
    shard: Shard | None = None,
    journals: Path | None = None,
) -> tuple[Experiment, Plane, Identity]:
    """Return the experiment with the job's grid chosen, the plane of a repeat and what identifies its surface.

    Collective; the plane is the same on every rank. Rank 0 alone reads the checkpoints of a trajectory.

    Args:
        world: The ranks.
        experiment: Network, data and job.
        repeat: Counts through `plane.repeats`.
        known: The file of the surface to go on with, if it exists; None to start afresh.
        search: Whether eigenvectors, steepest ascents and ranges are searched for, and bends trained. Otherwise random
            directions, which cost nothing, the straight line, and ranges from -1 to 1 replace what no surface holds
            yet.
        shard: Which share of the points the surface is for; None for all.
        journals: The folder that keeps what is evaluated to find how far the `auto` axes go; None where there is no
            such axis.

    Raises:
        UserError: the plane cannot be built, the checkpoints do not fit it, or the ranks hold different planes.
        ValueError: a range is to be searched for, and there is no folder.
    """
    job, theta = experiment.job, experiment.theta
    run = on_ranks(world, world.rank == 0, find_run, job, theta, experiment.stop)
    section = job.values.plane
    if isinstance(section, RandomPlane):
        section = structs.replace(section, seed=section.seed + repeat)
    seed = section.seed if isinstance(section, RandomPlane) else -1
    request = Request(world, experiment, run, known, output_path(job, repeat))
    known_plane = on_ranks(world, request.here, experiment.source.plane, theta, job.values)
    is_known = any(world.allgather(known_plane is not None))
    if not is_known:
        known_plane = stored.resumed_plane(request, known)
        is_known = any(world.allgather(known_plane is not None))
    if not search:
        section = _unsearched(section)
    built = Built(known_plane) if is_known else BUILDERS[type(section)](section, request)
    plane = built.plane
    if plane is None or (theta.is_large and (is_known or not isinstance(section, RandomPlane))):
        plane = share_plane(world, plane if request.here else None, theta.parameters)
    fingerprints = {
        **experiment.fingerprints,
        "plane_sha256": agreed(world, "plane", together(world, plane.fingerprint)),
    }
    trajectory = on_root(world, place, run, plane, built.explained)
    if trajectory is not None:
        fingerprints["trajectory_sha256"] = world.bcast(run.sha256 if run else "")
        if job.values.planned_grid is None:
            points = job.values.grid.points if isinstance(job.values.grid, Grid) else None
            experiment = replace(experiment, job=job.with_grid(holding(trajectory, points)))
    along = plane.statistics.theta if plane.statistics else {}
    if others := [name for name in along if name not in theta.statistics]:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        note(world, f"the buffers {', '.join(others[:3])}{more} move along with the parameters.")
    centre = centre_text(experiment.centre)
    identity = Identity(seed, fingerprints, shard, trajectory=trajectory, facts=built.facts, centre=centre)
    experiment, facts = choose_grid(world, experiment, plane, identity, known, search=search, journals=journals)
    return experiment, plane, replace(identity, facts={**identity.facts, **facts})


def _unsearched(section: Section) -> Section:
    """Return a section whose plane costs nothing, in place of one that a search or a training finds."""
    if isinstance(section, HessianPlane | WorstPlane):
        return RandomPlane(seed=0, normalize=section.normalize, ignore=section.ignore, only=section.only)
    return structs.replace(section, steps=0) if isinstance(section, CurvePlane) else section
