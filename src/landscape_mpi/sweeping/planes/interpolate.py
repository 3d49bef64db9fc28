"""Builds planes of `plane.kind: interpolate`: from theta* to one or two other checkpoints of the network."""

from collections.abc import Callable, Mapping

import torch

from landscape_mpi.errors import Key, UserError
from landscape_mpi.job import InterpolatedPlane
from landscape_mpi.mpi.world import on_ranks
from landscape_mpi.plane import Parameters, Plane, difference, scale_direction
from landscape_mpi.plane.directions import UNUSED
from landscape_mpi.plane.parameters import can_move
from landscape_mpi.sweeping.planes import Built, Request
from landscape_mpi.sweeping.theta import Theta, load_end

EndOf = Callable[[str, str], Parameters]
"""A job's key and the name that it gives -> parameters and buffers of that checkpoint, on the CPU."""


def build(plane: InterpolatedPlane, request: Request) -> Built:
    """Return the plane to the checkpoints that the job names; collective.

    Raises:
        UserError: a checkpoint does not fit the network, or is theta* itself.
    """
    job, theta = request.experiment.job, request.experiment.theta

    def end_of(key: str, name: str) -> Parameters:
        return load_end(theta, job.resolve(name), key, job.values.model.entry)

    moving = job.values.evaluate.batchnorm == "move"
    return Built(on_ranks(request.world, request.here, interpolated, plane, theta, moving, end_of))


def interpolated(plane: InterpolatedPlane, theta: Theta, moving: bool, end_of: EndOf) -> Plane:
    """Return the plane from theta* to other parameters; `moving`: running statistics go there too.

    Raises:
        UserError: what lies at an end does not fit the network, or is theta* itself.
    """
    named = {"plane.to": plane.to} if plane.via is None else {"plane.to": plane.to, "plane.via": plane.via}
    ends = {key: end_of(key, name) for key, name in named.items()}
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
                        f"the tensor `{name}` ({buffer.dtype} {list(buffer.shape)}) is another one than that of ",
                        Key("model.checkpoint"),
                    ),
                    expected=expected,
                )
            found[name] = buffer
    return found
