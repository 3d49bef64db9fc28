"""Builds planes of directions that a file holds: `plane.kind: file`, and those of a surface that is gone on with."""

from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import torch

from landscape_mpi.errors import Key, UserError
from landscape_mpi.files.paths import check_input
from landscape_mpi.job import FilePlane, HessianPlane, RandomPlane, WorstPlane
from landscape_mpi.mpi.world import on_ranks
from landscape_mpi.plane import GENERATOR, Parameters, Plane, fit_direction
from landscape_mpi.surface.directions import Directions, read_directions
from landscape_mpi.surface.identity import Identity
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.schema import LETTERS
from landscape_mpi.surface.shards import recorded_shard
from landscape_mpi.sweeping.load import Experiment
from landscape_mpi.sweeping.once import share_parameters
from landscape_mpi.sweeping.planes import Built, Request
from landscape_mpi.sweeping.resume import check_resumable
from landscape_mpi.sweeping.theta import Theta


def build(plane: FilePlane, request: Request) -> Built:
    """Return the plane along the directions of a direction file or a surface file; collective.

    Raises:
        UserError: the file is missing or damaged, or its directions do not fit the network.
    """
    job, theta = request.experiment.job, request.experiment.theta
    moving = job.values.evaluate.batchnorm == "move"
    path, axes = job.resolve(plane.path), job.values.axes
    return Built(on_ranks(request.world, request.here, stored_plane, path, theta, axes, moving))


def stored_plane(path: Path, theta: Theta, axes: int, moving: bool) -> Plane:
    """Return the plane of a file's directions; `moving`: running statistics go along. Raises as `build`."""
    check_input(path, "plane.path", "a direction file or a surface file")
    held = read_directions(path, axes)
    statistics = theta.statistics if moving else {}
    known, state = {**statistics, **theta.buffers}, theta.origin.state_dict()
    along = {name: known[name] for buffers in held.buffers[:1] for name, _ in buffers if name in known}
    directions = []
    for axis, stored, buffers in zip_longest(LETTERS[:axes], held.axes, held.buffers):
        d = fit_direction(stored, theta.parameters, state, f"{path}: {axis}direction", statistics)
        if named := [(name, array) for name, array in buffers or [] if name in along]:
            wanted = {name: along[name] for name, _ in named}
            d |= fit_direction(named, wanted, wanted, f"{path}: {axis}buffers")
        if any(name not in d for name in statistics):
            raise UserError(
                "plane.path",
                (
                    f"{path} does not say which way the running statistics move, and ",
                    Key("evaluate.batchnorm"),
                    " is move",
                ),
                expected="a surface made with move, or keep or recompute",
            )
        directions.append(d)
    plane = Plane.along(theta.parameters, directions, along | statistics)
    _check_fingerprint(path, held, theta, plane)
    return plane


def _check_fingerprint(path: Path, held: Directions, theta: Theta, plane: Plane) -> None:
    """Refuse damaged directions of a surface through this theta*, if only its whole plane has a fingerprint.

    Raises:
        UserError: they make another plane.
    """
    recorded = held.fingerprints
    known = recorded.get("checkpoint_sha256") == theta.checkpoint_sha256 and "plane_sha256" in recorded
    exact = all(tensor.dtype == torch.float32 for tensor in theta.parameters.values())
    if "directions_sha256" in recorded or not (known and exact) or plane.statistics or held.buffers:
        return
    if len(held.axes) == 1:  # the surface may be one of a plane
        with suppress(UserError):
            stored = read_directions(path, axes=2).axes[1]
            eta = fit_direction(stored, theta.parameters, theta.origin.state_dict(), f"{path}: ydirection")
            plane = replace(plane, directions=(*plane.directions, {name: eta[name] for name in theta.parameters}))
    if plane.fingerprint() != recorded["plane_sha256"]:
        raise UserError(
            "plane.path",
            f"{path} is damaged: its directions are not those that it was written with (plane_sha256 differs)",
            expected="a sound file",
        )


def resumed_plane(request: Request, known: Path | None) -> Plane | None:
    """Return the plane that the surface at `known` holds, where the job alone does not give it again; collective.

    Eigenvectors and steepest ascents are read back, so that another kind of processor goes on with the same plane.
    Random directions that an earlier version drew by another generator are read back too.

    Returns:
        None where there is no such surface, or where the plane is to be built from the job; and on ranks that make no
        directions.

    Raises:
        UserError: the file at `known` is of another experiment.
    """
    world, experiment = request.world, request.experiment
    if known is None or not isinstance(experiment.job.values.plane, HessianPlane | RandomPlane | WorstPlane):
        return None
    found = on_ranks(world, world.rank == 0, _own_directions, experiment, known)
    if not world.bcast(found is not None):
        return None
    origin, axes = experiment.theta.parameters, range(experiment.job.values.axes)
    directions = [share_parameters(found[i] if found else None, list(origin), world, here=request.here) for i in axes]
    return Plane.along(origin, directions) if request.here else None


def _own_directions(experiment: Experiment, known: Path) -> list[Parameters] | None:
    """Return the directions of the surface to go on with, if there is one and they cannot be had from the job."""
    if not known.exists():
        return None
    surface = read_surface(known)
    attributes = surface.attributes
    if isinstance(experiment.job.values.plane, RandomPlane) and attributes.get("generator") == GENERATOR:
        return None
    same = {**experiment.fingerprints, "plane_sha256": str(attributes.get("plane_sha256"))}
    check_resumable(surface, experiment.job.values, Identity(-1, same, recorded_shard(attributes.get("shard"))))
    origin, state = experiment.theta.parameters, experiment.theta.origin.state_dict()
    stored = read_directions(known, experiment.job.values.axes).axes
    return [fit_direction(direction, origin, state, "its own surface") for direction in stored]
