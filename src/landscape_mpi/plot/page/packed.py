"""The numbers of a surface as text: base64 of their bytes, exact and small; knows nothing of what they mean."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.interpolate import linear
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.trajectory import Trajectory, joined

Packed = Mapping[str, str]


def packed(values: ArrayLike) -> str:
    """Return numbers as base64 of little-endian float64, row by row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f8").tobytes()).decode()


def numbers(surface: Surface, names: Sequence[str]) -> dict[str, Any]:
    """Return coordinates, status (a byte a point), results and, if there is one, the trajectory of a surface.

    `filled` has the results once more with those of points not done yet interpolated between the done ones; None where
    every point is done, or where too few are.
    """
    fields = [field_of(surface, name) for name in names]
    return {
        "alpha": packed(surface.alpha),
        "beta": None if surface.beta is None else packed(surface.beta),
        "status": base64.b64encode(np.ascontiguousarray(surface.status, np.uint8).tobytes()).decode(),
        "values": {field.quantity.metric: packed(_results(field)) for field in fields},
        "filled": None if surface.filled else _filled(fields),
        "trajectory": _trajectory(surface),
    }


def _results(field: Field) -> NDArray[np.float64]:
    """Return what the file holds, inf included, or what was calculated from it."""
    return field.surface.metrics.get(field.quantity.metric, field.values)


def _filled(fields: Sequence[Field]) -> Packed | None:
    fill = _along if fields[0].surface.is_line else linear
    try:
        return {field.quantity.metric: packed(fill(field)) for field in fields}
    except UserError:  # too few points to span an area
        return None


def _along(field: Field) -> NDArray[np.float64]:
    """Return the values [nx] of a line, straight between the points that are done; NaN beyond them."""
    places = np.arange(field.alpha.size)
    straight = np.interp(places, places[field.done], field.values[field.done], left=np.nan, right=np.nan)
    return np.where(field.done, field.values, straight)


def _gap(run: Trajectory) -> Trajectory:
    nothing = np.full(1, np.nan)
    return Trajectory(nothing, nothing, nothing, run.epoch[-1:], nothing, nothing)


def _trajectory(surface: Surface) -> Packed | None:
    """Return the columns of the training path on the surface's plane, and where its learning rate drops, by index."""
    path = surface.trajectory
    if path is None or path.beta is None or not path.epoch.size:
        return None
    runs = path.runs
    if len(runs) > 1:  # with a gap between two of them, where a line is broken
        path = joined([part for run in runs for part in (run, _gap(run))][:-1], [""] * (2 * len(runs) - 1))
        path = replace(path, lr=np.full(path.alpha.size, np.nan))
    columns: dict[str, Any] = {"alpha": path.alpha, "beta": path.beta, "residual": path.residual, "epoch": path.epoch}
    return {name: packed(values) for name, values in {**columns, "loss": path.train_loss, "drops": path.drops}.items()}
