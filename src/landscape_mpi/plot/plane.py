"""Draws a plane: contour lines with their levels, filled contours, a heat map, or a shaded surface in 3-D."""

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LightSource, ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from matplotlib.transforms import Bbox
from mpl_toolkits.mplot3d import Axes3D  # type: ignore[import-untyped]
from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]
from numpy.typing import NDArray

from landscape_mpi.plot.field import Field, between, linear, nearest
from landscape_mpi.plot.labels import alpha_label, beta_label
from landscape_mpi.plot.path import STAR
from landscape_mpi.plot.scale import Numbers, Scale
from landscape_mpi.plot.style import GAP, SMALL, colours, line_colours

Values = NDArray[np.float64]

_MOST_LABELLED = 20
"""Lines of one level that may be labelled."""
_MOST_DOTS = 2500
_CHARACTERS_A_WIDTH = 42
"""How many characters of a label fit into the width of a panel."""
_BOX = (1.0, 1.0, 0.75)
"""The sides of the box around a surface in three dimensions."""
_LIGHT = LightSource(azdeg=250, altdeg=50)
_FACETS = 100
"""About how many facets along an axis are too small to see."""
_LONGEST_LABEL = 15
"""Characters of the label of a slanting axis."""


def draw_contours(axes: Axes, field: Field, scale: Scale) -> ContourSet:
    """Draw the level lines of a plane; squares with a corner that is NaN or inf are grey."""
    _grey_squares(axes, field)
    values = scale.lift(linear(field))
    return axes.contour(
        field.alpha, field.beta, values, levels=scale.levels, norm=scale.norm, cmap=line_colours(), linewidths=0.9
    )


def draw_filled(axes: Axes, field: Field, scale: Scale) -> ContourSet:
    """Fill the bands between the levels of a plane; return the lines between them, to be labelled."""
    _grey_squares(axes, field)
    values = scale.lift(linear(field))
    axes.contourf(
        field.alpha,
        field.beta,
        values,
        levels=scale.bands,
        norm=scale.banded(colours()).norm,
        cmap=colours(),
        extend=scale.extend,
    )
    return axes.contour(
        field.alpha,
        field.beta,
        values,
        levels=scale.levels,
        colors="black",
        linewidths=0.4,
        linestyles="solid",
        alpha=0.7,
    )


def draw_heat(axes: Axes, field: Field, scale: Scale) -> QuadMesh:
    """Draw each point of a plane as a cell around it, without smoothing; a cell is grey where the result is NaN or inf.

    A point that is not done yet shows the nearest point that is done.
    """
    columns, rows = _edges(field.alpha), _edges(field.beta)
    _grey(axes, columns, rows, field.done & np.isnan(field.values))
    values = np.ma.masked_invalid(scale.lift(nearest(field)))
    return axes.pcolormesh(columns, rows, values, norm=scale.norm, cmap=colours(), rasterized=True)


def _edges(centres: Values) -> Values:
    """Return the n + 1 edges of the cells around n coordinates; a lone coordinate gets a cell of width 1."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[:-1] + centres[1:]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.array([first, *middles, last])


def _grey_squares(axes: Axes, field: Field) -> None:
    """Paint the squares of the grid that have no contours, because a corner is NaN or inf."""
    gap = field.done & np.isnan(field.values)
    _grey(axes, field.alpha, field.beta, gap[:-1, :-1] | gap[:-1, 1:] | gap[1:, :-1] | gap[1:, 1:])


def _grey(axes: Axes, columns: Values, rows: Values, cells: NDArray[np.bool_]) -> None:
    """Paint some cells [ny, nx] between the given edges [nx + 1] and [ny + 1] grey."""
    if cells.any():
        painted = np.ma.masked_array(np.zeros(cells.shape), ~cells)
        axes.pcolormesh(columns, rows, painted, cmap=ListedColormap([GAP]), rasterized=True, gid="gaps")


def frame(axes: Axes, field: Field) -> None:
    """Label the axes, set their limits and aspect, and mark theta* and, on unfinished planes, the done points."""
    axes.set_xlabel(alpha_label(field.origin))
    width, height = float(np.ptp(field.alpha)), float(np.ptp(field.beta))
    equal = alike(width, height)
    axes.set_ylabel(
        textwrap.fill(beta_label(field.origin), int(_CHARACTERS_A_WIDTH * (height / width if equal else 1)))
    )
    if equal:
        axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if not field.surface.filled and field.surface.done <= _MOST_DOTS:
        rows, columns = np.nonzero(field.done)
        axes.scatter(field.alpha[columns], field.beta[rows], s=2, color="black", alpha=0.5, linewidths=0, gid="done")
    (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    if field.has_origin and left <= 0 <= right and bottom <= 0 <= top:
        _mark_trained(axes, alone=field.surface.trajectory is None)


def alike(width: float, height: float) -> bool:
    """Return whether both ranges are so similar that one length can mean the same on both axes."""
    return min(width, height) > 0 and 0.5 <= width / height <= 2


def _mark_trained(axes: Axes, *, alone: bool) -> None:
    """Mark theta* at (0, 0); if it is not `alone`, a path of training may end there."""
    axes.plot(
        0, 0, marker="*", color="white", markersize=STAR, mec="black", mew=0.6, clip_on=False, zorder=5, gid="trained"
    )
    axes.annotate(
        "θ*",
        (0, 0),
        xytext=(3, 2.5) if alone else (5, 4),  # outside the marks of a path that ends there
        textcoords="offset points",
        zorder=6,
        fontsize=SMALL + 0.5,
        path_effects=[withStroke(linewidth=1.6, foreground="white")],
    )


def label_levels(axes: Axes, lines: ContourSet) -> None:
    """Write the levels on the longest of their lines wherever there is room; labels of black lines have a light edge.

    The layout of the figure must be settled: it decides which labels touch each other.
    """
    # matplotlib's own list: matplotlib labels and draws what is put there
    paths = cast("list[Path]", lines.get_paths())
    parts = [_parted(path) for path in paths]
    paths[:] = [longest for longest, _ in parts]
    number = Numbers.of([float(level) for level in lines.levels])
    taken = [artist.get_window_extent() for artist in (*axes.texts, *axes.lines)]
    candidates = axes.clabel(lines, fmt=number, fontsize=SMALL, inline=False)
    chosen = sorted(_apart(candidates, taken, axes.get_window_extent()), key=Text.get_text)
    for text in candidates:
        text.remove()
    lines.labelTexts.clear()
    for words, same in groupby(chosen, Text.get_text):
        levels = [level for level in lines.levels if number(level) == words]
        places = [text.get_position() for text in same]
        axes.clabel(lines, levels, fmt=number, fontsize=SMALL, inline_spacing=1.5, manual=places)
    if lines.colors is not None:  # lines of one colour, on bands of any colour
        for text in lines.labelTexts:
            text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
    paths[:] = [Path.make_compound_path(longest, rest) for longest, (_, rest) in zip(paths, parts, strict=True)]


def _parted(path: Path) -> tuple[Path, Path]:
    """Split the lines of a level into the longest lines and the rest: a chaotic plane has thousands of tiny lines.

    matplotlib goes through all of them for every label.
    """
    vertices, codes = np.asarray(path.vertices), np.asarray(path.codes)
    starts = np.flatnonzero(codes == Path.MOVETO)
    if len(starts) <= _MOST_LABELLED:
        return path, Path(np.empty((0, 2)))
    lengths = np.diff(starts, append=len(path))
    longest = np.isin(np.arange(len(starts)), np.argsort(-lengths, kind="stable")[:_MOST_LABELLED])
    chosen = np.repeat(longest, lengths)
    return Path(vertices[chosen], codes[chosen]), Path(vertices[~chosen], codes[~chosen])


def _apart(texts: Iterable[Text], taken: list[Bbox], inside: Bbox) -> Iterator[Text]:
    """Yield the texts within the axes that touch no taken box and no other text, one text of each level in turn."""
    levels = [list(same) for _, same in groupby(texts, Text.get_text)]
    for text in (text for row in zip_longest(*levels) for text in row if text is not None):
        box = text.get_window_extent()
        fits = inside.fully_containsx(box.x0) and inside.fully_containsx(box.x1)
        fits &= inside.fully_containsy(box.y0) and inside.fully_containsy(box.y1)
        if fits and not box.padded(1).count_overlaps(taken):
            taken.append(box)
            yield text


def draw_surface(axes: Axes3D, field: Field, scale: Scale) -> Poly3DCollection:
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
    _frame_surface(axes, field, scale)
    return surface


def mark_on_surface(axes: Axes3D, field: Field, scale: Scale) -> None:
    """Mark theta* on the surface where (0, 0) lies on it; the mark is drawn over the surface, also behind a ridge."""
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
    """Return the coordinates, all kept, with so many points between them that the facets are too small to see."""
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

    The low end of the map is too dark to be shaded by darkening alone. A surface that is low nearly everywhere, beside
    a spike or a panel of a larger range, would be evenly dark.
    """
    low, high = scale.height(np.array([scale.low, scale.high]))
    rgba: Values = colours()((np.nan_to_num(heights, nan=low) - low) / (high - low))
    shade = light[..., None]
    rgba[..., :3] *= 0.55 + 0.45 * shade
    rgba[..., :3] += 0.3 * shade**2 * (1 - rgba[..., :3])
    return rgba


def _frame_surface(axes: Axes3D, field: Field, scale: Scale) -> None:
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
    # no tick in the first tenth: a number there would stand beside the last number of alpha
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
    if len(label) <= _LONGEST_LABEL:
        return label
    words = label.split()
    return f"{words[0]} ({words[-2]} %)" if words[-1] == "%)" else words[0]
