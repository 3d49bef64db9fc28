"""Builds planes of `plane.kind: interpolate`: from theta* to one or two other checkpoints of the network."""

from collections.abc import Mapping

import torch

from landscape_mpi.errors import Key, UserError
from landscape_mpi.job import InterpolatedPlane
from landscape_mpi.mpi.world import on_ranks
from landscape_mpi.plane import Parameters, Plane, difference, scale_direction
from landscape_mpi.plane.directions import UNUSED
from landscape_mpi.plane.parameters import can_move
from landscape_mpi.sweeping.planes import Built, Request
from landscape_mpi.sweeping.planes.aligned import aligned
from landscape_mpi.sweeping.theta import Theta


def build(plane: InterpolatedPlane, request: Request) -> Built:
    """Return the plane to the checkpoints that the job names; collective.

    Raises:
        UserError: a checkpoint does not fit the network, or is theta* itself.
    """
    experiment, world = request.experiment, request.world
    theta, moving = experiment.theta, experiment.job.values.evaluate.batchnorm == "move"
    named = {"plane.to": plane.to} if plane.via is None else {"plane.to": plane.to, "plane.via": plane.via}

    def load_ends() -> dict[str, Parameters]:
        return {key: experiment.source.end_state(theta, key, name) for key, name in named.items()}

    ends: Mapping[str, Parameters] = on_ranks(world, request.here, load_ends) or {}
    facts: Mapping[str, float] = {}
    if plane.align is not None:
        ends, facts = aligned(request, named, ends)
    return Built(on_ranks(world, request.here, interpolated, plane, theta, moving, named, ends), facts)


def interpolated(
    plane: InterpolatedPlane, theta: Theta, moving: bool, named: Mapping[str, str], ends: Mapping[str, Parameters]
) -> Plane:
    """Return the plane from theta* to other parameters.

    Args:
        plane: The section of the job.
        theta: Where the plane begins.
        moving: Whether running statistics go along.
        named: Keys of the job, and what they name.
        ends: The tensors at each end, by key.

    Raises:
        UserError: what lies at an end does not fit the network, or is theta* itself.
    """
    buffers = {**(theta.statistics if moving else {}), **_other_buffers(plane, theta, ends)}
    directions = []
    for key, name in named.items():
        way = difference(ends[key], theta.parameters)
        d = scale_direction(way, theta.parameters, plane.normalize, plane.ignore, plane.only)
        d |= difference(ends[key], buffers)
        if not any(bool(tensor.any()) for tensor in d.values()):
            raise UserError(
                key, (f"{name} holds what ", Key("model.checkpoint"), " holds"), expected="another network's weights"
            )
        directions.append(d)
    return Plane.along(theta.parameters, directions, buffers)


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
            if not (can_move(buffer) and plane.whole):
                expected = (
                    "normalize: none, ignore: none and no only, by which buffers move along with the parameters"
                    if can_move(buffer)
                    else "the same at both ends, because no weight between them has one of its own"
                )
                raise UserError(
                    key,
                    (
                        f"the tensor `{name}` ({buffer.dtype} {list(buffer.shape)}) differs from that of ",
                        Key("model.checkpoint"),
                    ),
                    expected=expected,
                )
            found[name] = buffer
    return found
