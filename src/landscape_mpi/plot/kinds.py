"""The kinds of picture, what each needs around it and which surfaces it suits; knows nothing of figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable

from landscape_mpi.errors import UserError
from landscape_mpi.plot import contour, filled, heat, surface3d
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.scale import Scale
from landscape_mpi.plot.style import colours, line_colours
from landscape_mpi.surface.read import Surface


@dataclass(frozen=True)
class Kind:
    """A kind of picture of a plane.

    Attributes:
        draw: draws one field on one panel (3-D axes where `projection` says so).
        colours: what the colour bar shows; None where an axis shows the values.
        projection: of the axes.
        label: writes on what was drawn, once the layout is settled.
        least: the fewest points an axis of the grid may have.
    """

    draw: Callable[[Any, Field, Scale], Artist]
    colours: Callable[[Scale], ScalarMappable] | None
    projection: str | None = None
    label: Callable[[Any, Any], None] | None = None
    least: int = 2


PLANES: Mapping[str, Kind] = {
    "contour": Kind(contour.draw, lambda scale: scale.mappable(line_colours()), label=contour.label),
    "filled": Kind(filled.draw, lambda scale: scale.banded(colours()), label=contour.label),
    "heat": Kind(heat.draw, lambda scale: scale.mappable(colours()), least=1),
    "surface": Kind(surface3d.draw, None, projection="3d"),
}
LINE = "line"


def kind_of(surfaces: Sequence[Surface], asked: str | None) -> str:
    """Return the kind of picture: as asked, else contours of planes and curves of lines.

    Raises:
        UserError: the kind does not suit a surface, or lines and planes are mixed.
    """
    name = asked or (LINE if surfaces[0].is_line else "contour")
    for surface in surfaces:
        if surface.is_line != (name == LINE):
            raise UserError(_mismatch(surface, name))
        if not surface.is_line and min(surface.shape) < PLANES[name].least:
            raise UserError(f"{surface.path}: a plane of {_by(surface)} points has no area; expected --kind heat.")
    return name


def check_levels(name: str, levels: Sequence[float] | None) -> None:
    """Refuse contour levels for a picture that has none.

    Raises:
        UserError: there are levels.
    """
    if levels and (name == LINE or PLANES[name].label is None):
        fitting = " or ".join(other for other, kind in PLANES.items() if kind.label)
        raise UserError(f"--levels: --kind {name} has no contours; expected --kind {fitting}.")


def _mismatch(surface: Surface, name: str) -> str:
    fitting = LINE if surface.is_line else " | ".join(PLANES)
    found = f"a line of {surface.points}" if surface.is_line else f"a plane of {_by(surface)}"
    return f"{surface.path}: found {found} points, which --kind {name} cannot draw; expected --kind {fitting}."


def _by(surface: Surface) -> str:
    return " x ".join(map(str, reversed(surface.shape)))
