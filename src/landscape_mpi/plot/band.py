"""A line along several random directions as one: median, range, and each of them thin; knows nothing of files."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from landscape_mpi.plot.field import Field
from landscape_mpi.plot.scale import Scale


def draw(axes: Axes, fields: Sequence[Field], scale: Scale, colour: str, dash: Literal["-", "--", ":"]) -> Line2D:
    """Draw one metric of several surfaces along the same coordinates.

    Median and range are those of the finite results; where no result is finite there is a gap.

    Returns:
        The median's curve.
    """
    alpha, done = fields[0].alpha, np.any([field.done for field in fields], axis=0)
    values = np.stack([scale.lift(field.values) for field in fields])
    finite = np.isfinite(values).any(axis=0)
    low, middle, high = (np.full(alpha.shape, np.nan) for _ in range(3))
    low[finite], high[finite] = np.nanmin(values[:, finite], axis=0), np.nanmax(values[:, finite], axis=0)
    middle[finite] = np.nanmedian(values[:, finite], axis=0)
    axes.fill_between(alpha[done], low[done], high[done], color=colour, alpha=0.16, linewidth=0)
    for field, row in zip(fields, values, strict=True):
        axes.plot(alpha[field.done], row[field.done], dash, color=colour, linewidth=0.4, alpha=0.45, gid="repeat")
    (curve,) = axes.plot(alpha[done], middle[done], dash, color=colour, label=fields[0].quantity.words)
    return curve
