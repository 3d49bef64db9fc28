"""Filled contours with labelled lines between the bands; knows nothing of files or of other pictures."""

from matplotlib.axes import Axes
from matplotlib.contour import ContourSet

from landscape_mpi.plot.contour import grey_squares
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.interpolate import linear
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import colours


def draw(axes: Axes, field: Field, scale: Scale) -> ContourSet:
    """Fill the bands between the levels of a plane; return the lines between them, to be labelled."""
    grey_squares(axes, field)
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
