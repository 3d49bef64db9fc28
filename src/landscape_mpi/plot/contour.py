"""Contour lines with labelled levels; knows nothing of files or of other pictures."""

from collections.abc import Iterable, Iterator
from itertools import groupby, zip_longest
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from landscape_mpi.plot.axes import grey
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.interpolate import linear
from landscape_mpi.plot.levels import Numbers
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import SMALL, line_colours

_MOST_LABELLED = 20
"""Lines of one level that may be labelled."""


def draw(axes: Axes, field: Field, scale: Scale) -> ContourSet:
    """Draw the level lines of a plane; squares with a corner that is NaN or inf are grey."""
    grey_squares(axes, field)
    return axes.contour(
        field.alpha,
        field.beta,
        scale.lift(linear(field)),
        levels=scale.levels,
        norm=scale.norm,
        cmap=line_colours(),
        linewidths=0.9,
    )


def grey_squares(axes: Axes, field: Field) -> None:
    """Paint the squares of the grid that have no contours, because a corner is NaN or inf."""
    gap = field.done & np.isnan(field.values)
    squares = gap[:-1, :-1] | gap[:-1, 1:] | gap[1:, :-1] | gap[1:, 1:]
    grey(axes, field.alpha, field.beta, squares)


def label(axes: Axes, lines: ContourSet) -> None:
    """Write the levels on the longest of their lines wherever there is room, black ones with a light edge.

    The layout of the figure must be settled: what touches what depends on it.
    """
    # matplotlib's own list: what is put there is what it labels and draws
    paths = cast("list[Path]", lines.get_paths())
    parts = [_parted(path) for path in paths]
    paths[:] = [longest for longest, _ in parts]
    _write(axes, lines)
    if lines.colors is not None:  # of one colour, on bands of any
        for text in lines.labelTexts:
            text.set_path_effects([withStroke(linewidth=1.6, foreground="white")])
    paths[:] = [Path.make_compound_path(longest, rest) for longest, (_, rest) in zip(paths, parts, strict=True)]


def _parted(path: Path) -> tuple[Path, Path]:
    """Part the lines of a level into the longest and the rest, of which a chaotic plane has thousands, mere specks.

    matplotlib looks at each of them for every label.
    """
    vertices, codes = np.asarray(path.vertices), np.asarray(path.codes)
    starts = np.flatnonzero(codes == Path.MOVETO)
    if len(starts) <= _MOST_LABELLED:
        return path, Path(np.empty((0, 2)))
    lengths = np.diff(starts, append=len(path))
    longest = np.isin(np.arange(len(starts)), np.argsort(-lengths, kind="stable")[:_MOST_LABELLED])
    chosen = np.repeat(longest, lengths)
    return Path(vertices[chosen], codes[chosen]), Path(vertices[~chosen], codes[~chosen])


def _write(axes: Axes, lines: ContourSet) -> None:
    """Write the levels on all lines wherever there is room."""
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


def _apart(texts: Iterable[Text], taken: list[Bbox], inside: Bbox) -> Iterator[Text]:
    """Yield the texts within the axes that touch neither what is taken nor each other."""
    for text in _level_by_level(texts):
        box = text.get_window_extent()
        fits = inside.fully_containsx(box.x0) and inside.fully_containsx(box.x1)
        fits &= inside.fully_containsy(box.y0) and inside.fully_containsy(box.y1)
        if fits and not box.padded(1).count_overlaps(taken):
            taken.append(box)
            yield text


def _level_by_level(texts: Iterable[Text]) -> Iterator[Text]:
    """Yield one text of each level, then a second one of each, and so on."""
    levels = [list(same) for _, same in groupby(texts, Text.get_text)]
    for row in zip_longest(*levels):
        yield from (text for text in row if text is not None)
