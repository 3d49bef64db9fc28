"""Defines the sections `plane` and `grid` of a job: which directions, and which points along them.

An axis of the grid may say that its range is to be found.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct, structs
from numpy.typing import NDArray

Positive = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=0, le=2**62)]
CURVES: Mapping[str, Callable[[float], float]] = {
    "bezier": lambda t: 2 * t * (1 - t),
    "polygon": lambda t: min(2 * t, 2 - 2 * t),
}
"""The weight w of the bend at t, by kind of curve: phi(t) = (1 - t) theta + t to + w(t) (bend - (theta + to) / 2)."""
POINTS = 25
"""Along an axis whose range is found, where the job does not say how many."""


class Values(Struct, frozen=True, forbid_unknown_fields=True):
    """What all sections of a job share: frozen, no unknown keys."""


Normalise = Literal["filter", "layer", "weight", "none"]
Ignore = Literal["biasbn", "none"] | tuple[str, ...]
Only = Annotated[tuple[str, ...], Meta(min_length=1)]
Trajectory = str | Annotated[tuple[str, ...], Meta(min_length=1)]


class RandomPlane(Values, tag="random", tag_field="kind", frozen=True, kw_only=True):
    """Directions drawn from a Gaussian, one generator each, then normalised.

    Attributes:
        seed: of the generators
        normalize: what a direction's filters, layers or weights are rescaled to
        ignore: what stays where it is: `biasbn` (tensors of one dimension: biases and batch norm), `none`, or name
            patterns such as `["*.bias"]`
        only: name patterns of the parameters to perturb, such as `["layer3.*"]`; none stands for all
        repeats: k planes with seeds `seed` to `seed + k - 1`, in files `NAME.r0.h5`, `NAME.r1.h5`, ...
        trajectory: checkpoints of a training run whose path on the plane is kept as well; a list for several runs
    """

    seed: Seed = 0
    normalize: Normalise = "filter"
    ignore: Ignore = "biasbn"
    only: Only | None = None
    repeats: Annotated[int, Meta(ge=1, le=10_000)] = 1
    trajectory: Trajectory | None = None


class PcaPlane(Values, tag="pca", tag_field="kind", frozen=True, kw_only=True):
    """The principal components of a training run's checkpoints, seen from theta*.

    Attributes:
        trajectory: the checkpoints: a pattern such as `"nets/vgg9/epoch-*.safetensors"` (`*`, `?`, `[0-9]`, `**` for
            folders), relative to the job file; a list for several runs, a pattern each
        normalize: of the components; as for `random`
        ignore: as for `random`; left out of the components too
        only: as for `random`; all others are left out of the components too
    """

    trajectory: Trajectory
    normalize: Normalise = "none"
    ignore: Ignore = "biasbn"
    only: Only | None = None


class InterpolatedPlane(Values, tag="interpolate", tag_field="kind", frozen=True, kw_only=True):
    """From theta* to other checkpoints: delta = to - theta*, eta = via - theta*, as they are unless normalised.

    Attributes:
        to: the checkpoint at alpha = 1; any file that `model.checkpoint` may be
        via: the checkpoint at beta = 1: required with `grid.beta`, and refused without it
        align: `auto`: the units of `to` and `via` are permuted first, so that their weights come near to those of
            theta*; each network computes the same as before (docs/barriers.md)
        normalize: as for `random`; anything but `none` ends elsewhere than at `to` and `via`
        ignore: as for `random`; anything but `none` ends elsewhere than at `to` and `via`
        only: as for `random`; ends elsewhere than at `to` and `via`
    """

    to: str
    via: str | None = None
    align: Literal["auto"] | None = None
    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None

    @property
    def whole(self) -> bool:
        """Whether the plane goes all the way to its ends: nothing is rescaled, ignored or left out."""
        return self.normalize == "none" and self.ignore == "none" and self.only is None


class CurvePlane(Values, tag="curve", tag_field="kind", frozen=True, kw_only=True):
    """A curve of low loss from theta* to another checkpoint, whose bend is trained first (docs/barriers.md).

    Without `grid.beta` alpha goes along the curve, from theta* at 0 to `to` at 1.

    Attributes:
        to: the checkpoint at the other end; any file that `model.checkpoint` may be
        curve: `bezier` (quadratic), or `polygon` (two straight lines that meet at the bend)
        bends: how many there are between the ends
        steps: of the training, on the first split; each takes the gradient at a random place of the curve
        lr: the learning rate of the first half of the steps; it falls to a hundredth of it until nine tenths
        momentum: of the steps
        batch: examples per step
        seed: of the places along the curve, and of the order of the examples
        align: as for `interpolate`
        coordinates: what alpha and beta are, with `grid.beta`. `plane`: of the plane through both ends and the bend, in
            lengths of the straight line; `curve`: alpha along the curve, beta how far it is bent: 0 is the straight
            line, 1 the curve
    """

    to: str
    curve: Literal["bezier", "polygon"] = "bezier"
    bends: Annotated[int, Meta(ge=1, le=1)] = 1
    steps: Annotated[int, Meta(ge=1, le=10_000_000)] = 2000
    lr: Annotated[float, Meta(gt=0)] = 0.02
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    batch: Positive = 128
    seed: Seed = 0
    align: Literal["auto"] | None = None
    coordinates: Literal["plane", "curve"] = "plane"


class HessianPlane(Values, tag="hessian", tag_field="kind", frozen=True, kw_only=True):
    """Eigenvectors of the Hessian at theta*: of its largest eigenvalue, and of the most negative one.

    Attributes:
        normalize: as for `random`; anything but `none` bends the eigenvectors
        ignore: as for `random`; the Hessian is that over the parameters that are left
        only: as for `random`; the Hessian is that over these parameters
    """

    normalize: Normalise = "none"
    ignore: Ignore = "none"
    only: Only | None = None


class WorstPlane(Values, tag="worst", tag_field="kind", frozen=True, kw_only=True):
    """The steepest ascent of the loss at theta*, by its gradient, and random directions beside it.

    Attributes:
        examples: the gradient is that of the mean loss of the first n examples of the first split; null for all
        steps: number of gradients: the first is at theta*, each later one at `radius` along the direction so far
        radius: the alpha at which the loss is maximised; required for more than one step
        seed: of the random directions of the other axes
        normalize: as for `random`; the direction is the steepest of those with the length of random ones
        ignore: as for `random`
        only: as for `random`
    """

    examples: Positive | None = 2000
    steps: Annotated[int, Meta(ge=1, le=1000)] = 1
    radius: Annotated[float, Meta(gt=0)] | None = None
    seed: Seed = 0
    normalize: Normalise = "filter"
    ignore: Ignore = "biasbn"
    only: Only | None = None


class FilePlane(Values, tag="file", tag_field="kind", frozen=True, kw_only=True):
    """Directions stored in a direction file or a surface file, used as they are.

    Attributes:
        path: a file of landscape_mpi, or one that tomgoldstein/loss-landscape wrote
        trajectory: as for `random`
    """

    path: str
    trajectory: Trajectory | None = None


Plane = RandomPlane | InterpolatedPlane | CurvePlane | PcaPlane | HessianPlane | WorstPlane | FilePlane


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
        alpha: the points along delta; `auto`: as far as the loss rises by 1 nat, on both sides of theta* (below); left
            out beside `points`, the grid of `pca` holds the path
        beta: the points along eta; left out, the job is a line
        gamma: the points along a third direction, of a plane of kind random, pca or file
        points: along each axis that is `auto` (none: 25), or along each axis of a grid that holds the path (none: 51)
    """

    alpha: Axis | Auto | None = None
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
    """Return the section `grid` of a job as keys: `grid: auto` is a plane both of whose axes are.

    None where the trajectory is to choose it.
    """
    if grid == "auto":
        return Grid(alpha="auto", beta="auto")
    return None if grid is None or grid.alpha is None else grid
