"""Measures the barrier between two networks: how far a loss rises above the straight line between its values at them.

height = max over alpha in [0, 1] of f(alpha) - (1 - alpha) f(0) - alpha f(1), as in S. K. Ainsworth, J. Hayase and
S. Srinivasa, "Git Re-Basin" (ICLR 2023, arXiv:2209.04836), definition 2.2, whose lambda is 1 - alpha.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.job import CurvePlane, InterpolatedPlane
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.registry import STDERR, is_mean
from landscape_mpi.surface.identity import job_of
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.sharpness import zero

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Barrier:
    """How far a loss rises between two networks; NaN where it cannot be known.

    Attributes:
        height: of the loss above the straight line between the ends, in the loss's unit; 0 where the loss is nowhere
            above the line.
        alpha: where this height is reached.
        error: at most the standard error of the height: the sum of the standard errors of the three losses, weighted
            as the losses are. This bound is reached where their errors are one and the same or opposite. A bound is
            given, as nobody knows how the examples that several points share affect the difference. For a height of
            0, which an end has by definition, it is the bound of the highest point between the ends; NaN where there
            is no such point.
        start: the loss at alpha = 0.
        end: the loss at alpha = 1.
        points: how many points there are from 0 to 1; nothing was measured between them.
    """

    height: float
    alpha: float
    error: float
    start: float
    end: float
    points: int


def barrier(losses: Values, errors: Values | None, alpha: Values) -> Barrier | None:
    """Return the barrier along a line.

    Args:
        losses: float64 [n]; NaN where it is not known.
        errors: their standard errors, float64 [n]; None where they are not known.
        alpha: float64 [n], ascending or descending.

    Returns:
        None where no point lies at alpha = 0 or at alpha = 1.

    >>> barrier(np.array([1.0, 4.0, 2.0]), np.array([0.5, 0.25, 0.5]), np.array([0.0, 0.5, 1.0]))
    Barrier(height=2.5, alpha=0.5, error=0.75, start=1.0, end=2.0, points=3)
    """
    first, last = zero(alpha), zero(alpha - 1.0)
    if first is None or last is None:
        return None
    start, end = float(losses[first]), float(losses[last])
    between = np.flatnonzero((alpha >= alpha[first]) & (alpha <= alpha[last]))
    along, there = alpha[between], losses[between]
    rise = there - ((1.0 - along) * start + along * end)
    is_end = (between == first) | (between == last)
    rise[is_end] = 0.0 if math.isfinite(start + end) else math.nan
    if not math.isfinite(start + end) or np.isnan(rise).any():
        return Barrier(math.nan, math.nan, math.nan, start, end, len(between))
    top = int(rise.argmax())
    error = math.nan
    if errors is not None and not is_end.all():
        highest = int(np.where(is_end, -math.inf, rise).argmax())
        at = float(along[highest])
        error = float(errors[between[highest]] + (1.0 - at) * errors[first] + at * errors[last])
    return Barrier(float(rise[top]), float(along[top]), error, start, end, len(between))


def barriers(surface: Surface, beta: float = 0.0) -> dict[str, Barrier]:
    """Return the barrier of each mean loss of a surface along alpha, by the loss's name; on a plane, at one beta.

    The result is empty for a volume, or where no points lie at alpha = 0 and alpha = 1, or at that beta.
    """
    row = 0 if surface.beta is None else zero(surface.beta - beta)
    if len(surface.axes) > 2 or row is None:
        return {}
    lines = {name: np.atleast_2d(values)[row] for name, values in surface.metrics.items()}
    every = (name for name in lines if is_mean(name, LOSS))
    found = {name: barrier(lines[name], lines.get(name + STDERR), surface.alpha) for name in every}
    return {name: one for name, one in found.items() if one is not None}


def plane_of(surface: Surface) -> object:
    """Return the plane that the job of a surface asks for; None where it is not known."""
    try:
        return None if surface.job is None else job_of(surface).values.plane
    except UserError:  # of a job that this version does not read
        return None


def is_bent(plane: object, surface: Surface) -> bool:
    """Return whether alpha goes along a curve, so that a distance from (0, 0) is not one in parameter space."""
    return isinstance(plane, CurvePlane) and (surface.beta is None or plane.coordinates == "curve")


def barrier_lines(surface: Surface) -> Iterator[tuple[str, float]]:
    """Yield the ways between two networks that a surface has, in the words of `info`, and the beta of each."""
    plane = plane_of(surface)
    if isinstance(plane, InterpolatedPlane):
        yield "barrier", 0.0
    if isinstance(plane, CurvePlane) and surface.beta is not None:
        yield "straight barrier", 0.0
    if is_bent(plane, surface):
        yield "curve's barrier", 1.0


def barrier_attributes(surface: Surface) -> dict[str, float]:
    """Return the barriers of a surface as attributes of an export, such as `curve_barrier_test_loss_stderr`.

    Each barrier has its height, where this is along alpha, and the upper bound of its standard error where it is known.
    """
    found: dict[str, float] = {}
    for label, beta in barrier_lines(surface):
        way = label.replace("'s", "").replace(" ", "_")
        for name, one in barriers(surface, beta).items():
            numbers = {"": one.height, "_alpha": one.alpha, STDERR: one.error}
            found |= {f"{way}_{name}{suffix}": value for suffix, value in numbers.items() if math.isfinite(value)}
    return found
