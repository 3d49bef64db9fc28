"""Builds planes of `plane.kind: curve`: a curve of low loss between two checkpoints, and the plane that it lies in."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from msgspec import to_builtins

from landscape_mpi.errors import Key, UserError
from landscape_mpi.job import CurvePlane, InterpolatedPlane
from landscape_mpi.log import log
from landscape_mpi.mpi.world import on_ranks, on_root, together
from landscape_mpi.plane import Course, Parameters, Plane, feed, fit_direction
from landscape_mpi.plane.parameters import dot, single
from landscape_mpi.surface.directions import read_directions
from landscape_mpi.surface.identity import Identity
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.shards import recorded_shard
from landscape_mpi.sweeping.once import share_parameters
from landscape_mpi.sweeping.planes import Built, Request
from landscape_mpi.sweeping.planes.aligned import aligned
from landscape_mpi.sweeping.planes.bend import Bend, Keep, Trainer, keep_path, train_bend
from landscape_mpi.sweeping.planes.interpolate import interpolated
from landscape_mpi.sweeping.resume import check_resumable


def build(plane: CurvePlane, request: Request) -> Built:
    """Return the plane of the curve, whose bend rank 0 trains where nothing holds it yet; collective.

    Raises:
        UserError: the other checkpoint does not fit the network or is theta* itself, or the training diverges.
    """
    world, experiment = request.world, request.experiment
    theta, named = experiment.theta, {"plane.to": plane.to}
    if theta.is_large:
        raise UserError(
            "plane.kind",
            "found curve, and networks of 256 MB and more are held once and not copied, as a training needs",
            remedy="name kind interpolate for the straight line",
        )

    ends: Mapping[str, Parameters] = {
        "plane.to": together(world, experiment.source.end_state, theta, "plane.to", plane.to)
    }
    facts: Mapping[str, float] = {}
    if plane.align is not None:
        ends, facts = aligned(request, named, ends)
    line = together(world, interpolated, InterpolatedPlane(to=plane.to), theta, False, named, ends)
    if line.statistics is not None:
        odd = next(iter(line.statistics.theta))
        raise UserError(
            "plane.to",
            (f"the buffer `{odd}` differs from that of ", Key("model.checkpoint")),
            expected="the same at both ends, because the bend has none of its own",
        )
    delta = line.directions[0]
    in_plane = experiment.job.values.axes == 2 and plane.coordinates == "plane"
    course = None if in_plane else Course(plane.curve)
    made = Plane(theta.parameters, (delta,), course=course, axes=experiment.job.values.axes, end=ends["plane.to"])

    if (eta := on_root(world, _stored, request)) is not None:
        return Built(replace(made, directions=(delta, eta)))
    bend = on_ranks(world, world.rank == 0, _trained, plane, request, delta, ends["plane.to"])
    shift = share_parameters(bend.shift if bend else None, list(delta), world)
    found = world.bcast({"curve_loss": bend.loss, "curve_steps": float(plane.steps)} if bend else {})
    lies = on_root(world, place, delta, shift)
    log(
        world,
        f"plane: the bend lies at {lies[0]:.4g} of the straight line, {lies[1]:.4g} of its length beside it.",
    )
    facts = {**facts, **found, "bend_alpha": lies[0], "bend_beta": lies[1]}
    eta = across(delta, shift) if in_plane else shift
    return Built(replace(made, directions=(delta, eta)), facts)


def place(delta: Parameters, shift: Parameters) -> tuple[float, float]:
    """Return where a bend lies in the plane through both ends and it, in lengths of the straight line.

    Args:
        delta: from theta* to the other end.
        shift: from the middle between them to the bend.

    Returns:
        How far along the straight line, and how far beside it.
    """
    square = dot(delta, delta)
    along = dot(shift, delta) / square
    beside = max(dot(shift, shift) / square - along * along, 0.0)
    return 0.5 + along, math.sqrt(beside)


def across(delta: Parameters, shift: Parameters) -> dict[str, torch.Tensor]:
    """Return the direction at a right angle to delta, of its length, in which the bend lies; zeros without a bend."""
    square = dot(delta, delta)
    along = dot(shift, delta) / square
    rest = {name: part.double() - along * delta[name].double() for name, part in shift.items()}
    length = math.sqrt(dot(rest, rest))
    scale = math.sqrt(square) / length if length else 0.0
    return {name: (scale * part).float() for name, part in rest.items()}


def _trained(plane: CurvePlane, request: Request, delta: Parameters, end: Parameters) -> Bend:
    """Train the bend, or go on with what an earlier run has kept of it; float32 on the CPU. Raises as `build`."""
    experiment, digest = request.experiment, hashlib.sha256()
    trainer, job = Trainer(plane, experiment, delta), experiment.job.values
    if plane.steps == 0:
        return trainer.start()
    said = {**to_builtins(plane), "to": "", "coordinates": ""}
    network = [job.model.build, job.model.options, job.evaluate.dtype, job.evaluate.batchnorm]
    learned = [job.loss, job.loss_options, job.data.splits[0], experiment.device.type]
    text = json.dumps([said, network, learned, dict(experiment.fingerprints)], sort_keys=True, default=str)
    digest.update(text.encode())
    feed(digest, {name: end[name] for name in delta})
    kept = keep_path(request.output)
    if request.known is None:
        kept.unlink(missing_ok=True)
    keep = Keep(kept, digest.hexdigest(), experiment.theta.note)
    bend = train_bend(trainer, keep, partial(log, request.world))
    return replace(bend, shift={name: single(tensor).cpu() for name, tensor in bend.shift.items()})


def _stored(request: Request) -> Parameters | None:
    """Return the second direction of the surface to go on with; None where there is none."""
    experiment, known = request.experiment, request.known
    if known is None or not known.exists():
        return None
    surface = read_surface(known)
    attributes = surface.attributes
    same = {**experiment.fingerprints, "plane_sha256": str(attributes.get("plane_sha256"))}
    check_resumable(surface, experiment.job.values, Identity(-1, same, recorded_shard(attributes.get("shard"))))
    state, origin = experiment.theta.origin.state_dict(), experiment.theta.parameters
    stored = read_directions(known, 2).axes[1]
    return fit_direction(stored, origin, state, "its own surface")
