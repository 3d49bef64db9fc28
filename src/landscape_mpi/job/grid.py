"""Defines the section `grid` of a job: which points, and how axes say that their range is to be found."""

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct, structs
from numpy.typing import NDArray

POINTS = 25
"""Along an axis whose range is found, where the job does not say how many."""


class Values(Struct, frozen=True, forbid_unknown_fields=True):
    """What all sections of a job share: frozen, no unknown keys."""


class Axis(Values, frozen=True, array_like=True):
    """One axis of the grid: first and last coordinate and the number of points."""

    first: float
    last: float
    points: int

    def coordinates(self) -> NDArray[np.float64]:
        """Return the coordinates, float64 [points].

        Written as a weighted mean of the ends, so that the middle of a symmetric axis is exactly zero.
        """
        if self.points == 1:
            return np.array([self.first])
        steps = self.points - 1
        index = np.arange(self.points, dtype=np.float64)
        values = (self.first * (steps - index) + self.last * index) / steps
        values[0], values[-1] = self.first, self.last
        return values


AXES = ("alpha", "beta", "gamma")
"""The names of a grid's axes, in the order of a plane's directions."""
Auto = Literal["auto"]


class Grid(Values, frozen=True, kw_only=True):
    """The points of the plane; without beta it is a line, with gamma a volume.

    Attributes:
        alpha: the points along delta; `auto`: as far as the loss rises by 1 nat, on both sides of theta* (below)
        beta: the points along eta; left out, the job is a line
        gamma: the points along a third direction, of a plane of kind random, pca or file
        points: along each axis that is `auto`; none stands for 25
    """

    alpha: Axis | Auto
    beta: Axis | Auto | None = None
    gamma: Axis | Auto | None = None
    points: Annotated[int, Meta(ge=2)] | None = None

    @property
    def ranges(self) -> tuple[Axis | Auto, ...]:
        """The axes that there are, alpha first, some of them `auto`."""
        return tuple(axis for axis in (self.alpha, self.beta, self.gamma) if axis is not None)

    @property
    def is_open(self) -> bool:
        """Whether the range of an axis is still to be found."""
        return "auto" in self.ranges

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that there are, alpha first.

        Raises:
            RuntimeError: the range of one is still to be found.
        """
        known = tuple(axis for axis in self.ranges if isinstance(axis, Axis))
        if len(known) < len(self.ranges):
            raise RuntimeError("an axis is looked at before its range has been found")
        return known

    def reaching(self, *ends: float) -> "Grid":
        """Return the grid whose axes that are `auto` go from -end to end; one end for each axis, of `auto` or not.

        >>> Grid(alpha="auto", beta=Axis(0.0, 1.0, 3), points=5).reaching(0.2, 7.0).axes
        (Axis(first=-0.2, last=0.2, points=5), Axis(first=0.0, last=1.0, points=3))
        """
        found = zip(AXES, self.ranges, ends, strict=False)
        points = self.points or POINTS
        chosen = {name: Axis(-end, end, points) for name, axis, end in found if axis == "auto"}
        return structs.replace(self, points=None, **chosen)

    def coordinates(self) -> tuple[NDArray[np.float64], ...]:
        """Return the coordinates along alpha, beta, ..., float64 each."""
        return tuple(axis.coordinates() for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """[nx] of a line, [ny, nx] of a plane, [nz, ny, nx] of a volume: the last index counts along alpha."""
        return tuple(axis.points for axis in reversed(self.axes))


def planned(grid: Grid | Auto | None) -> Grid | None:
    """Return the section `grid` of a job as keys: `grid: auto` is a plane both of whose axes are."""
    return Grid(alpha="auto", beta="auto") if grid == "auto" else grid
