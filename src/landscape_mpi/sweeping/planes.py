"""A job and theta* -> its planes, one function a `plane.kind`, and where their surfaces go; writes nothing."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import check_input
from landscape_mpi.job import (
    FilePlane,
    HessianPlane,
    InterpolatedPlane,
    JobFile,
    PcaPlane,
    RandomPlane,
    SweepJob,
)
from landscape_mpi.plane import Parameters, Plane, RandomDirections, difference, fit_direction, scale_direction
from landscape_mpi.plane.kinds import can_move
from landscape_mpi.plane.stored import UNUSED
from landscape_mpi.surface.directions import StoredDirection, read_directions, read_fingerprints, read_statistics
from landscape_mpi.sweeping.load import Theta, load_end

EndOf = Callable[[str, str], Parameters]
"""A job's key and what it says -> parameters and buffers that lie there, on the CPU."""


def build_plane(job: JobFile[SweepJob], theta: Theta, repeat: int = 0) -> Plane:
    """Return the plane of a job; `repeat` counts through `plane.repeats`.

    Raises:
        UserError: a pattern matches nothing, or another checkpoint or a direction file does not fit the network.
    """
    plane, line = job.values.plane, job.values.axes == 1
    moving = job.values.evaluate.batchnorm == "move"
    match plane:
        case FilePlane():
            return _stored_plane(job.resolve(plane.path), theta, line, moving)
        case InterpolatedPlane():
            entry = job.values.model.entry
            return interpolated(plane, theta, moving, lambda key, name: load_end(theta, job.resolve(name), key, entry))
        case HessianPlane():
            raise TypeError("all ranks look for its eigenvectors together: eigenplane makes it")
        case RandomPlane():
            return _random_plane(plane, seed(job.values, repeat), theta, line)
        case PcaPlane():
            raise TypeError("its checkpoints are read once, not by every rank: lay_plane builds it")


def notes(job: SweepJob, theta: Theta) -> list[str]:
    """Return what a user should know of the planes before they are swept."""
    if not (isinstance(job.plane, InterpolatedPlane) and job.evaluate.batchnorm == "keep" and theta.statistics):
        return []
    text = "evaluate.batchnorm is keep: plane.to gets the running statistics of model.checkpoint; move takes its own."
    return [text]


def repeats(job: SweepJob) -> int:
    """Return how many planes the job asks for."""
    return job.plane.repeats if isinstance(job.plane, RandomPlane) else 1


def seed(job: SweepJob, repeat: int) -> int:
    """Return the seed of a repeat's plane; -1 where nothing is drawn."""
    return job.plane.seed + repeat if isinstance(job.plane, RandomPlane) else -1


def output_path(job: JobFile[SweepJob], repeat: int) -> Path:
    """Return where the surface of a repeat goes: NAME.h5, or NAME.rK.h5 where there are several."""
    path = job.resolve(job.values.output.file)
    return path if repeats(job.values) == 1 else path.with_name(f"{path.stem}.r{repeat}{path.suffix}")


def _random_plane(plane: RandomPlane, seed: int, theta: Theta, line: bool) -> Plane:
    directions = RandomDirections(seed, plane.normalize, plane.ignore, plane.only)
    origin = theta.parameters
    return Plane(origin, directions.draw(origin, 0), None if line else directions.draw(origin, 1))


def interpolated(plane: InterpolatedPlane, theta: Theta, moving: bool, end_of: EndOf) -> Plane:
    """Return the plane from theta* to other parameters; `moving`: running statistics go there too.

    Raises:
        UserError: what lies at an end does not fit the network, or is theta* itself.
    """
    named = {"plane.to": plane.to} if plane.via is None else {"plane.to": plane.to, "plane.via": plane.via}
    ends = {key: end_of(key, name) for key, name in named.items()}
    along = {**(theta.statistics if moving else {}), **_other_buffers(plane, theta, ends)}

    def way(key: str, name: str) -> Parameters:
        d = scale_direction(
            difference(ends[key], theta.parameters), theta.parameters, plane.normalize, plane.ignore, plane.only
        )
        d |= difference(ends[key], along)
        if not any(bool(tensor.any()) for tensor in d.values()):
            raise UserError(f"{key}: {name} holds what model.checkpoint holds; expected another network's weights.")
        return d

    delta, *eta = (way(key, name) for key, name in named.items())
    return _plane(theta, delta, eta[0] if eta else None, along)


def is_whole(plane: InterpolatedPlane) -> bool:
    """Whether a plane goes all the way to its ends."""
    return plane.normalize == "none" and plane.ignore == "none" and plane.only is None


def _other_buffers(plane: InterpolatedPlane, theta: Theta, ends: Mapping[str, Parameters]) -> Parameters:
    """Return theta*'s buffers that are not batch norm's and differ at an end, where they move as the parameters do.

    Raises:
        UserError: they cannot, because they hold no real or complex numbers, or because the plane goes part of the way.
    """
    found = {}
    for key, end in ends.items():
        for name, buffer in theta.buffers.items():
            if name.endswith(UNUSED) or torch.equal(end[name], buffer):
                continue
            if not (can_move(buffer) and is_whole(plane)):
                expected = (
                    "normalize: none, ignore: none and no only, by which buffers move along with the parameters"
                    if can_move(buffer)
                    else "the same at both ends, because no weight between them has one of its own"
                )
                raise UserError(
                    f"{key}: the tensor `{name}` ({buffer.dtype} {list(buffer.shape)}) is another one than that of "
                    f"model.checkpoint; expected {expected}."
                )
            found[name] = buffer
    return found


def _stored_plane(path: Path, theta: Theta, line: bool, moving: bool) -> Plane:
    check_input(path, "plane.path", "a direction file or a surface file")
    delta, eta = read_directions(path, line)
    xbuffers, ybuffers = read_statistics(path, line) or (None, None)
    known = {**(theta.statistics if moving else {}), **theta.buffers}
    along = {name: known[name] for name, _ in xbuffers or [] if name in known}

    def fitted(axis: str, stored: StoredDirection, buffers: StoredDirection | None) -> Parameters:
        state, statistics = theta.origin.state_dict(), theta.statistics if moving else {}
        d = fit_direction(stored, theta.parameters, state, f"{path}: {axis}direction", statistics)
        if named := [(name, array) for name, array in buffers or [] if name in along]:
            held = {name: along[name] for name, _ in named}
            d |= fit_direction(named, held, held, f"{path}: {axis}buffers")
        if any(name not in d for name in statistics):
            raise UserError(
                f"plane.path: {path} does not say which way the running statistics move, and evaluate.batchnorm is "
                "move; expected a surface made with move, or keep or recompute."
            )
        return d

    along_eta = None if eta is None else fitted("y", eta, ybuffers)
    whole = along | (theta.statistics if moving else {})
    plane = _plane(theta, fitted("x", delta, xbuffers), along_eta, whole)
    _check_fingerprint(path, theta, plane, line)
    return plane


def _check_fingerprint(path: Path, theta: Theta, plane: Plane, line: bool) -> None:
    """Refuse damaged directions of a surface that says of its whole plane alone what it was, through this theta*.

    Raises:
        UserError: they make another plane.
    """
    recorded = read_fingerprints(path)
    known = recorded.get("checkpoint_sha256") == theta.checkpoint_sha256 and "plane_sha256" in recorded
    exact = all(tensor.dtype == torch.float32 for tensor in theta.parameters.values())
    if "directions_sha256" in recorded or not (known and exact) or plane.statistics or read_statistics(path, line=True):
        return
    if line:  # of a plane, perhaps
        with suppress(UserError):
            _, stored = read_directions(path, line=False)
            eta = fit_direction(stored or [], theta.parameters, theta.origin.state_dict(), f"{path}: ydirection")
            plane = replace(plane, eta={name: eta[name] for name in theta.parameters})
    if plane.fingerprint() != recorded["plane_sha256"]:
        raise UserError(
            f"plane.path: {path} is damaged: its directions are not those that it was written with "
            "(plane_sha256 differs); expected a sound file."
        )


def _plane(theta: Theta, delta: Parameters, eta: Parameters | None, along: Parameters) -> Plane:
    """Return the plane of directions that hold parameters and the buffers that move along."""

    def part(origin: Parameters) -> Plane:
        return Plane(origin, {name: delta[name] for name in origin}, eta and {name: eta[name] for name in origin})

    return replace(part(theta.parameters), statistics=part(along) if along else None)
