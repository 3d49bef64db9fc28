"""A heat map: one coloured cell a point, nothing smoothed; knows nothing of files or of other pictures."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.typing import NDArray

from landscape_mpi.plot.axes import grey
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.interpolate import nearest
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import colours


def draw(axes: Axes, field: Field, scale: Scale) -> QuadMesh:
    """Draw each point of a plane as a cell around it, grey where it is NaN or inf.

    A point that is not done yet shows the nearest one that is.
    """
    grey(axes, _edges(field.alpha), _edges(field.beta), field.done & np.isnan(field.values))
    return axes.pcolormesh(
        _edges(field.alpha),
        _edges(field.beta),
        np.ma.masked_invalid(scale.lift(nearest(field))),
        norm=scale.norm,
        cmap=colours(),
        rasterized=True,
    )


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the n + 1 edges of the cells around n coordinates; a lone coordinate gets a cell of width 1."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[:-1] + centres[1:]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.array([first, *middles, last])
