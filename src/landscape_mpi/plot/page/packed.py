"""The numbers of a surface as text: base64 of their bytes, exact and small; knows nothing of what they mean."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike, NDArray

from landscape_mpi.errors import UserError, printable
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.interpolate import linear
from landscape_mpi.plot.path import marked
from landscape_mpi.surface.read import Surface

Packed = Mapping[str, str]


def packed(values: ArrayLike) -> str:
    """Return numbers as base64 of little-endian float64, row by row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f8").tobytes()).decode()


def numbers(surface: Surface, names: Sequence[str]) -> dict[str, Any]:
    """Return coordinates, status (a byte a point), results and the training runs of a surface.

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
        "runs": _runs(fields[0]),
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


_SYMBOLS = {"o": "circle", "s": "square", "D": "diamond"}


def _runs(field: Field) -> list[dict[str, Any]]:
    """Return the training runs on a plane: columns, name (where there are several), colour, and marks."""
    path = field.surface.trajectory
    if path is None or path.beta is None or not path.epoch.size:
        return []
    found = []
    for run, colour, marks in marked(field, path):
        columns = {"alpha": run.alpha, "beta": np.asarray(run.beta), "residual": run.residual, "epoch": run.epoch}
        stops = [
            {
                "at": int(mark.where[0]),
                "symbol": _SYMBOLS[mark.marker],
                "radius": mark.radius,
                "face": to_hex(mark.face),
                "below": mark.below,
            }
            for mark in marks
            if mark.name
        ]
        found.append(
            {
                "name": printable(run.names[0]) if run.names else "",
                "colour": to_hex(colour),
                "columns": {name: packed(values) for name, values in {**columns, "loss": run.train_loss}.items()},
                "stops": stops,
            }
        )
    return found
