"""Draws a plane as a shaded surface in three dimensions."""

import numpy as np
from matplotlib.colors import LightSource
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray

from landscape_mpi.plot.field import Field, between, linear
from landscape_mpi.plot.labels import alpha_label, beta_label
from landscape_mpi.plot.scale import Numbers, Scale
from landscape_mpi.plot.style import colours

Values = NDArray[np.float64]

_BOX = (1.0, 1.0, 0.75)
_LIGHT = LightSource(azdeg=250, altdeg=50)
_FACETS = 100
_LONGEST = 15


def draw(axes: Axes3D, field: Field, scale: Scale) -> Poly3DCollection:
    """Draw a plane as a shaded surface; where the scale is logarithmic, so is the height."""
    heights = scale.height(linear(field))
    low, high = scale.height(np.array([scale.low, scale.high]))
    relative = (heights - low) / (high - low) * _BOX[2]
    # how brightly each point is lit, 0 to 1, in a box of equal sides
    lit = _LIGHT.hillshade(relative, dx=1 / (heights.shape[1] - 1), dy=1 / (heights.shape[0] - 1))
    light = np.where(np.isnan(lit), 0.5, lit)
    alpha, beta = _finer(field.alpha), _finer(field.beta)
    fine = _resampled(heights, field, alpha, beta)
    surface = _facets(alpha, beta, fine, _relief(fine, _resampled(light, field, alpha, beta), scale))
    axes.add_collection3d(surface)
    axes.auto_scale_xyz(alpha, beta, fine)
    _dress(axes, field, scale)
    return surface


def mark_trained(axes: Axes3D, field: Field, scale: Scale) -> None:
    """Mark theta* on the surface where (0, 0) lies on it; it is drawn over the surface, also behind a ridge."""
    origin = np.zeros(1)
    height = between(scale.height(linear(field)), field, origin, origin)
    if field.has_origin and np.isfinite(height).all():
        star = {"marker": "*", "color": "white", "markersize": 7.5, "markeredgecolor": "black", "markeredgewidth": 0.6}
        axes.plot(origin, origin, height, linestyle="none", zorder=22, gid="trained", **star)


def _facets(alpha: Values, beta: Values, heights: Values, rgba: Values) -> Poly3DCollection:
    """Return a facet for each square of the grid whose four corners have heights, in the colour of its first corner.

    Axes3D.plot_surface does the same one facet at a time, which takes seconds.
    """
    columns, rows = np.meshgrid(alpha, beta)
    points = np.stack([columns, rows, heights], axis=-1)
    faces = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2)
    whole = np.isfinite(faces).all(axis=(2, 3))
    colour = rgba[:-1, :-1][whole]
    return Poly3DCollection(
        faces[whole], facecolors=colour, edgecolors=colour, linewidth=0.35, antialiased=True, rasterized=True
    )


def _finer(axis: Values) -> Values:
    """Return the coordinates with points between them, all kept, until the facets are too small to see."""
    parts = max(1, _FACETS // (axis.size - 1))
    index = np.arange((axis.size - 1) * parts + 1) / parts
    return np.interp(index, np.arange(axis.size), axis)


def _resampled(values: Values, field: Field, alpha: Values, beta: Values) -> Values:
    """Interpolate values [ny, nx] bilinearly at finer coordinates: the same surface in smaller facets."""
    index_x, index_y = (np.arange(axis.size) for axis in (field.alpha, field.beta))
    x = np.linspace(0, index_x[-1], alpha.size)
    y = np.linspace(0, index_y[-1], beta.size)
    along_x = np.stack([np.interp(x, index_x, row) for row in values])
    return np.stack([np.interp(y, index_y, column) for column in along_x.T], axis=1)


def _relief(heights: Values, light: Values, scale: Scale) -> Values:
    """Return the colours of the surface, RGBA [ny, nx, 4], darker where less light falls and lighter where more does.

    The low end of the map is too dark to be shaded by darkening alone: a surface that is low nearly everywhere, beside
    a spike or a panel of a larger range, would be one dark sheet.
    """
    low, high = scale.height(np.array([scale.low, scale.high]))
    rgba: Values = colours()((np.nan_to_num(heights, nan=low) - low) / (high - low))
    shade = light[..., None]
    rgba[..., :3] *= 0.55 + 0.45 * shade
    rgba[..., :3] += 0.3 * shade**2 * (1 - rgba[..., :3])
    return rgba


def _dress(axes: Axes3D, field: Field, scale: Scale) -> None:
    """Label the axes, height in units of the metric, and clear the panes."""
    pad = -4 + 3 * field.quantity.label.count("\n")
    axes.set_xlabel(_brief(alpha_label(field.origin)), labelpad=pad)
    axes.set_ylabel(_brief(beta_label(field.origin)), labelpad=pad)
    axes.set_zlim(*scale.height(np.array([scale.low, scale.high])))
    axes.tick_params(pad=-1)
    _label_heights(axes, scale, field.quantity.label)
    axes.view_init(elev=32, azim=-58)
    axes.patch.set_visible(False)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(field.alpha)))
    # not in its first tenth: a number there would stand beside the last one of alpha
    beta = np.array([field.beta[0] + 0.1 * (field.beta[-1] - field.beta[0]), field.beta[-1]])
    axes.yaxis.set_major_locator(FixedLocator(_ticks(beta)))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color="#dddddd", linewidth=0.5)


def _ticks(axis: Values) -> list[float]:
    """Return round numbers within an axis."""
    low, high = float(axis[0]), float(axis[-1])
    slack = 1e-9 * (high - low)
    round_numbers = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in round_numbers if low - slack <= tick <= high + slack]


def _label_heights(axes: Axes3D, scale: Scale, label: str) -> None:
    """Label heights with the values of the metric, also where the height is their logarithm."""
    texts = [*map(Numbers.of(scale.ticks), scale.ticks)]
    axes.zaxis.set_major_locator(FixedLocator(list(scale.height(np.array(scale.ticks)))))
    axes.zaxis.set_major_formatter(FixedFormatter(texts))
    # Labels are centred beside the axis, so long ones (most of all powers of ten) need to stand further off.
    powers = any("$" in text for text in texts)
    pad = 4 if powers else max(map(len, texts)) - 4
    axes.zaxis.set_tick_params(pad=pad)
    lines = label.count("\n") + 1
    axes.set_zlabel(label, labelpad=pad + 5 * (lines - 1) + (2 if powers else 0))
    axes.set_box_aspect(_BOX, zoom=(0.88 if powers else 1.0) * 0.92 ** (lines - 1))


def _brief(label: str) -> str:
    """Return a label short enough for a slanting axis: the caption explains the rest."""
    if len(label) <= _LONGEST:
        return label
    words = label.split()
    return f"{words[0]} ({words[-2]} %)" if words[-1] == "%)" else words[0]
