"""Shapes and lights a plane as a landscape: a fine mesh through its points, with shadows and the light of the sky.

The light is calculated here for every vertex, so that every program that can draw coloured triangles shows the same
picture. A vertex gets light from the part of the sky that its surroundings do not hide. This is ambient occlusion, the
mean of 1 - sin of the horizon over all directions (Zakšek, Oštir and Kokalj, "Sky-View Factor as a Relief Visualization
Technique", Remote Sensing 3, 2011). It also gets light, by Lambert's cosine, from the part of the sun that no ridge
hides.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from landscape_mpi.plot.camera import AZIMUTH, towards
from landscape_mpi.plot.field import Field, linear
from landscape_mpi.plot.opengl import Mesh
from landscape_mpi.plot.plane import alike
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.smoothing import smoothed

Values = NDArray[np.float64]

HEIGHT = 0.5
"""How high the scale is, in lengths of the longer axis."""
VERTICES = 480
"""About how many vertices along an axis are too near to each other to see, in a picture of 1600 pixels."""
BESIDE, ELEVATION = -98.0, 42.0
"""Where the sun stands, in degrees: to the left of the camera, and above the horizon."""
SUN_RADIUS = 7.0
"""Half the width of the sun, in degrees: how soft the edges of shadows are."""
_SUNLIGHT, _SKYLIGHT, _BOUNCE = (1.85, 1.7, 1.45), (0.55, 0.66, 0.85), (0.25, 0.20, 0.16)
"""The light on a white vertex from all of the sun, the sky, and the lit ground around it: red, green and blue."""
_AZIMUTHS = 32
"""Directions in which the horizon of a vertex is looked for."""
_COARSE = 3
"""The horizon is looked for at one of so many vertices along either axis: the edges of shadows are soft."""
_SPECKS = np.radians(np.linspace(-SUN_RADIUS, SUN_RADIUS, 9))
_COLOURS = LinearSegmentedColormap.from_list(
    "relief", ["#20305f", "#2c5f9e", "#4f9cc0", "#a5cfc4", "#ecdcae", "#eeae70", "#d9704c", "#a93439", "#6d1a36"]
)
"""Cold below, warm above, and light between them, so that colours do not take the place of shadows."""
_INK, _PEN = 0.4, 1.2
"""How dark the lines of levels are, and how wide, in vertices."""


def mesh_of(
    field: Field,
    scale: Scale,
    levels: tuple[float, ...] = (),
    azimuth: float = AZIMUTH,
    vertices: int = VERTICES,
) -> Mesh:
    """Return a plane as a lit mesh in a box around (0, 0, 0): alpha along x, beta along y, the metric upwards.

    Between the points of the grid, heights are those of cubic splines, which pass through every point. Points with
    error bars are smoothed within these first (see `smoothing`). On a log scale heights are log10 f, and
    log10(f + low) where values lie below the low end: the bottom is round there, not cut off.

    Args:
        field: what is drawn.
        scale: the ends of the heights and of the colours.
        levels: where lines of equal values are drawn on it.
        azimuth: where the camera stands, in degrees; the sun is to the left of it.
        vertices: the least number of vertices along an axis.
    """
    sun = azimuth + BESIDE
    ways = [1 if axis[0] < axis[-1] else -1 for axis in (field.beta, field.alpha)]
    known = _heights(field, scale)[:: ways[0], :: ways[1]]
    up, across = ((axis - axis.min()) / np.ptp(axis) for axis in (field.beta[:: ways[0]], field.alpha[:: ways[1]]))
    columns, rows = _fine(across, vertices), _fine(up, vertices)
    heights = _splines(up, rows) @ _without_gaps(known) @ _splines(across, columns).T
    x, y = _sides(field, columns, rows)
    low, high = scale.height(np.array([scale.low, scale.high]))
    relative = np.clip((heights - low) / (high - low), 0, 1)
    normals = _normals(x, y, HEIGHT * relative)
    falling = light(x, y, HEIGHT * relative, normals, sun)
    falling *= 1 - _INK * _lines(heights, _unbounded(np.array(levels), scale))[..., None]
    gaps = np.isnan(known)
    beside = gaps[:-1, :-1] | gaps[:-1, 1:] | gaps[1:, :-1] | gaps[1:, 1:]
    square = [np.searchsorted(axis, (at[:-1] + at[1:]) / 2) - 1 for axis, at in ((up, rows), (across, columns))]
    points = np.stack([*np.broadcast_arrays(x, y[:, None]), HEIGHT * (relative - 0.5)], axis=-1)
    return Mesh(
        points.astype(np.float32),
        normals.astype(np.float32),
        (255 * _developed(_from_srgb(_COLOURS(relative)[..., :3]) * falling)).round().astype(np.uint8),
        ~beside[np.ix_(*square)],
        towards(sun, ELEVATION),
    )


def _heights(field: Field, scale: Scale) -> Values:
    """Return the heights of the points [ny, nx], smoothed within their error bars where they have any; NaN in gaps."""
    values = linear(field)
    heights = _unbounded(values, scale)
    if field.bars is None:
        return heights
    bars = _unbounded(values + field.bars, scale) - heights
    return np.where(np.isnan(heights), np.nan, smoothed(_without_gaps(heights), bars))


def _unbounded(values: Values, scale: Scale) -> Values:
    """Return heights of values, also of those beyond the ends: a spline through heights that are cut off has waves."""
    if not scale.log:
        return values
    return np.log10(scale.lift(values) + (scale.low if scale.extend in ("min", "both") else 0.0))


def _sides(field: Field, columns: Values, rows: Values) -> tuple[Values, Values]:
    """Return where columns and rows, 0 to 1, are in the box; its longer side, or both if ranges differ, is 1 long."""
    lengths = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    across, up = (length / max(lengths) if alike(*lengths) else 1.0 for length in lengths)
    return (columns - 0.5) * across, (rows - 0.5) * up


def _fine(axis: Values, vertices: int) -> Values:
    """Return more than `vertices` evenly spaced places from 0 to 1, among them those of an evenly spaced axis."""
    return np.linspace(0, 1, (axis.size - 1) * max(1, -(-vertices // (axis.size - 1))) + 1)


def _splines(axis: Values, places: Values) -> Values:
    """Return the weights [places, points] of values along an ascending axis in the natural cubic spline through them.

    With steps h and slopes d its second derivatives m solve h[i-1] m[i-1] + 2 (h[i-1] + h[i]) m[i] + h[i] m[i+1] =
    6 (d[i] - d[i-1]), and are 0 at both ends.
    """
    values, steps = np.eye(axis.size), np.diff(axis)
    second = np.zeros_like(values)
    slopes = np.diff(values, axis=0) / steps[:, None]
    between = steps[1:-1]
    system = np.diag(2 * (steps[:-1] + steps[1:])) + np.diag(between, 1) + np.diag(between, -1)
    second[1:-1] = np.linalg.solve(system, 6 * np.diff(slopes, axis=0))
    left = np.clip(np.searchsorted(axis, places, side="right") - 1, 0, axis.size - 2)
    step = steps[left][:, None]
    after = (places - axis[left])[:, None] / step
    before = 1 - after
    bent = (before**3 - before) * second[left] + (after**3 - after) * second[left + 1]
    weights: Values = before * values[left] + after * values[left + 1] + bent * step**2 / 6
    return weights


def _without_gaps(heights: Values) -> Values:
    """Return heights with gaps filled from their edges, ring by ring: splines need all heights; gaps are not drawn."""
    filled = heights.copy()
    while np.isnan(filled).any():
        padded = np.pad(filled, 1, constant_values=np.nan)
        around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
        known = np.isfinite(around)
        edge = np.isnan(filled) & known.any(axis=0)
        filled[edge] = (np.where(known, around, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))[edge]
    return filled


def _normals(x: Values, y: Values, heights: Values) -> Values:
    """Return the unit normals [ny, nx, 3] of a surface, upwards."""
    along_y, along_x = np.gradient(heights, y, x)
    normals = np.stack([-along_x, -along_y, np.ones_like(heights)], axis=-1)
    unit: Values = normals / np.linalg.norm(normals, axis=-1, keepdims=True)
    return unit


def light(x: Values, y: Values, heights: Values, normals: Values, azimuth: float) -> Values:
    """Return the light [ny, nx, 3] that falls on every vertex: of the sun, of the sky and of the ground around it."""
    few = x[::_COARSE], y[::_COARSE], heights[::_COARSE, ::_COARSE]
    direction = towards(azimuth, ELEVATION)
    sun = _upsampled(sun_seen(*few, azimuth), heights.shape) * np.clip(normals @ direction, 0, None)
    sky = _upsampled(sky_seen(*few), heights.shape) * (0.5 + 0.5 * normals[..., 2])
    bounced = np.clip(normals @ (direction * [-1, -1, 0.4]), 0, None) * np.sqrt(sky)
    every: Values = sun[..., None] * _SUNLIGHT + sky[..., None] * _SKYLIGHT + bounced[..., None] * _BOUNCE
    return every


def sky_seen(x: Values, y: Values, heights: Values) -> Values:
    """Return which share of the sky every vertex sees, 0 to 1, the shape of the heights [ny, nx]."""
    steps = np.unique(np.r_[1:8, np.geomspace(8, max(*heights.shape, 16) / 2, 14).astype(int)])
    azimuths = (np.arange(_AZIMUTHS) + 0.5) * 2 * np.pi / _AZIMUTHS
    hidden = np.zeros_like(heights)
    for azimuth in azimuths:
        hidden += np.sin(_horizon(x, y, heights, azimuth, steps))
    return 1 - hidden / _AZIMUTHS


def sun_seen(x: Values, y: Values, heights: Values, azimuth: float) -> Values:
    """Return which share of the sun every vertex sees past the ridges before it, 0 to 1, the shape of the heights."""
    around, elevation, radius = np.radians((azimuth, ELEVATION, SUN_RADIUS))
    step = min(float(np.diff(axis).mean()) for axis in (x, y))
    steps = np.arange(1, int(np.ptp(heights) / np.tan(elevation) / step) + 2)
    seen = np.zeros_like(heights)
    for speck in _SPECKS:
        above = (elevation - _horizon(x, y, heights, around + speck, steps)) / radius
        part = np.clip(0.5 + above / 2, 0, 1)
        seen += part * part * (3 - 2 * part) / _SPECKS.size
    return seen


def _horizon(x: Values, y: Values, heights: Values, azimuth: float, steps: NDArray[np.int64]) -> Values:
    """Return how high the horizon stands in a direction, in radians, at least 0; beyond the mesh there is nothing.

    Args:
        x: coordinates of the columns.
        y: coordinates of the rows.
        heights: [ny, nx].
        azimuth: from +x towards +y, in radians.
        steps: how far to look, in vertices.
    """
    rise = np.zeros_like(heights)
    ny, nx = heights.shape
    dx, dy = (float(np.diff(axis).mean()) for axis in (x, y))
    for step in steps:
        right, up = round(step * np.cos(azimuth)), round(step * np.sin(azimuth))
        if abs(right) >= nx or abs(up) >= ny:
            break
        here = slice(max(0, -up), ny - max(0, up)), slice(max(0, -right), nx - max(0, right))
        there = slice(max(0, up), ny - max(0, -up)), slice(max(0, right), nx - max(0, -right))
        np.maximum(rise[here], (heights[there] - heights[here]) / np.hypot(right * dx, up * dy), out=rise[here])
    return np.arctan(rise)


def _upsampled(values: Values, shape: tuple[int, ...]) -> Values:
    """Interpolate values of every `_COARSE`-th vertex linearly at all vertices; beyond the last they stay the same."""
    for axis, count in enumerate(shape):
        last = values.shape[axis] - 1
        places = np.minimum(np.arange(count) / _COARSE, last)
        left = places.astype(int)
        part = np.expand_dims(places - left, 1 - axis)
        values = values.take(left, axis) * (1 - part) + values.take(np.minimum(left + 1, last), axis) * part
    return values


def _lines(heights: Values, levels: Values) -> Values:
    """Return how much of every vertex is covered by a line of a level, 0 to 1; all lines are equally wide."""
    ink = np.zeros_like(heights)
    slope = np.maximum(np.hypot(*np.gradient(heights)), 1e-9)
    for level in levels:
        np.maximum(ink, np.clip(_PEN - np.abs(heights - level) / slope, 0, 1), out=ink)
    return ink


def _from_srgb(colour: Values) -> Values:
    """Return sRGB colours, 0 to 1, as light (IEC 61966-2-1)."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _developed(light: Values) -> Values:
    """Return light as sRGB colours, 0 to 1; bright light fades towards white, as on film (Reinhard et al. 2002)."""
    toned = np.clip(light * (1 + light / 9) / (1 + 0.62 * light), 0, 1)
    return np.where(toned <= 0.0031308, 12.92 * toned, 1.055 * toned ** (1 / 2.4) - 0.055)
