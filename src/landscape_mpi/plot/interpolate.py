"""Interpolates a surface: values for the points that are not done yet, and heights between the points of the grid.

Points are visited coarse to fine, so the done ones are scattered over the plane. They are triangulated on the
index grid; a point not done yet takes its value from the triangle around it. Nothing is invented outside the
triangles, or where a corner of the triangle is NaN or inf: those places stay gaps.
"""

import numpy as np
from matplotlib.tri import LinearTriInterpolator, Triangulation
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.plot.field import Field

Values = NDArray[np.float64]


def linear(field: Field) -> Values:
    """Return the values [ny, nx], or [nx] of a line, with the missing ones interpolated linearly.

    Raises:
        UserError: too few points of a plane are done to span an area.
    """
    if field.surface.filled:
        return field.values
    if field.surface.is_line:
        places = np.arange(field.alpha.size)
        straight = np.interp(places, places[field.done], field.values[field.done], left=np.nan, right=np.nan)
        return np.where(field.done, field.values, straight)
    mesh = _triangulate(field)
    known = field.values[field.done]
    mesh.set_mask(np.isnan(known[mesh.triangles]).any(axis=1))
    rows, columns = np.nonzero(~field.done)
    found = LinearTriInterpolator(mesh, np.nan_to_num(known))(columns, rows)
    return _filled(field, np.ma.filled(found, np.nan))


def nearest(field: Field) -> Values:
    """Return the values [ny, nx] where a missing one is that of the nearest corner of its triangle.

    Too few points for a triangle are shown alone.
    """
    if field.surface.filled:
        return field.values
    try:
        mesh = _triangulate(field)
    except UserError:
        return field.values
    rows, columns = np.nonzero(~field.done)
    triangle = np.atleast_1d(mesh.get_trifinder()(columns, rows))
    corners = mesh.triangles[triangle]
    distances = np.hypot(mesh.x[corners] - columns[:, None], mesh.y[corners] - rows[:, None])
    corner = corners[np.arange(len(corners)), distances.argmin(axis=1)]
    return _filled(field, np.where(triangle >= 0, field.values[field.done][corner], np.nan))


def _filled(field: Field, missing: Values) -> Values:
    values = field.values.copy()
    values[~field.done] = missing
    return values


def _triangulate(field: Field) -> Triangulation:
    """Triangulate the done points on the index grid (x: column, y: row), without flat triangles."""
    rows, columns = np.nonzero(field.done)
    # fewer than three, or all in a row
    if rows.size < 3 or np.linalg.matrix_rank(np.stack([rows - rows[0], columns - columns[0]])) < 2:
        raise UserError(
            field.surface.path,
            (
                f"too early for this picture: the {field.surface.done} of {field.surface.points} points that are done "
                "span no area yet"
            ),
            remedy=(Flag("kind", ("heat",)), " shows them"),
        )
    mesh = Triangulation(columns, rows)
    x, y = mesh.x[mesh.triangles], mesh.y[mesh.triangles]
    twice_area = np.abs((x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0]))
    return Triangulation(mesh.x, mesh.y, mesh.triangles[twice_area > 0.5])


def between(heights: Values, field: Field, x: Values, y: Values) -> Values:
    """Interpolate heights [ny, nx] bilinearly at some places; NaN beyond the grid and beside a gap."""
    column, row = _index(field.alpha, x), _index(field.beta, y)
    known = np.isfinite(column) & np.isfinite(row)
    left = np.clip(np.floor(column[known]), 0, field.alpha.size - 2).astype(int)
    low = np.clip(np.floor(row[known]), 0, field.beta.size - 2).astype(int)
    across, up = column[known] - left, row[known] - low
    below = heights[low, left] * (1 - across) + heights[low, left + 1] * across
    above = heights[low + 1, left] * (1 - across) + heights[low + 1, left + 1] * across
    found = np.full(x.shape, np.nan)
    found[known] = below * (1 - up) + above * up
    return found


def _index(axis: Values, values: Values) -> Values:
    """Return where values lie on an axis, ascending or descending, in steps from its first coordinate; NaN beyond."""
    sign = 1.0 if axis[-1] > axis[0] else -1.0
    return np.interp(sign * values, sign * axis, np.arange(axis.size), left=np.nan, right=np.nan)
