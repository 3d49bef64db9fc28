"""Makes densities of eigenvalues from the nodes and weights that a surface holds of each point's probes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE

Values = NDArray[np.float64]
NODES, WEIGHTS = "spectrum_nodes", "spectrum_weights"
WIDTHS = 200
"""Bandwidths in the range of the eigenvalues, where no bandwidth is asked for."""
BEYOND = 7
"""How many bandwidths a density extends beyond the first and the last node."""
A_WIDTH = 5
"""Places per bandwidth at which a density is computed."""
MOST = 100_000
"""The largest number of such places."""


@dataclass(frozen=True, eq=False)
class Density:
    """The density of the Hessian's eigenvalues at a point: which share of all eigenvalues lies where.

    Attributes:
        point: alpha, beta, ...: where it is.
        eigenvalues: float64 [m], ascending, in the unit of the loss.
        density: float64 [m], the share of the eigenvalues per unit; its integral is 1.
        stderr: float64 [m], the standard error of the density over the probes; NaN for a single probe.
        bandwidth: the standard deviation of the Gaussian that each node is drawn as.
    """

    point: tuple[float, ...]
    eigenvalues: Values
    density: Values
    stderr: Values
    bandwidth: float


def has_spectrum(surface: Surface) -> bool:
    """Return whether a surface holds nodes and weights."""
    return {NODES, WEIGHTS} <= set(surface.arrays)


def nearest(surface: Surface, point: tuple[float, ...] = ()) -> tuple[int, ...]:
    """Return the index (iy, ix) of the grid point nearest to alpha, beta, ...; a coordinate that is left out is 0.

    Raises:
        UserError: there are more coordinates than axes.
    """
    if len(point) > len(surface.axes):
        raise UserError("point", f"found {len(point)} coordinates", expected=f"at most {len(surface.axes)}")
    wanted = (*point, *(0.0,) * (len(surface.axes) - len(point)))
    return tuple(int(np.abs(axis - at).argmin()) for axis, at in zip(surface.axes, wanted, strict=True))[::-1]


def ends(surface: Surface, index: tuple[int, ...] = ()) -> tuple[float, float]:
    """Return the smallest and the largest node at a point, or at all points.

    Raises:
        UserError: there is no spectrum, no point is done yet, or no point has a finite spectrum.
    """
    if not has_spectrum(surface):
        raise UserError(surface.path, "has no spectrum", expected="a surface of `metrics: [loss, spectrum]`")
    if not (surface.status[index] == DONE).any():
        raise UserError(surface.path, f"no spectrum to draw yet: {surface.done} of {surface.points} points are done")
    nodes = surface.arrays[NODES][index]
    if not np.isfinite(nodes).any():
        raise UserError(surface.path, "the Hessian is not finite where its spectrum is asked for")
    return float(np.nanmin(nodes)), float(np.nanmax(nodes))


def usual_bandwidth(low: float, high: float) -> float:
    """Return the bandwidth for eigenvalues of a range where none is asked for."""
    return (high - low) / WIDTHS or max(abs(low), abs(high)) / WIDTHS or 1.0


def places(low: float, high: float, bandwidth: float) -> Values:
    """Return the places, float64 [m], at which a density over a range is computed."""
    low, high = low - BEYOND * bandwidth, high + BEYOND * bandwidth
    return np.linspace(low, high, min(math.ceil(A_WIDTH * (high - low) / bandwidth) + 1, MOST))


def density(
    surface: Surface, index: tuple[int, ...], bandwidth: float | None = None, at: Values | None = None
) -> Density:
    """Return the density at a point, each node drawn as a Gaussian (Lin, Saad and Yang, SIAM Review 58, 2016).

    Args:
        surface: what was read.
        index: (iy, ix) or (ix,) of the point.
        bandwidth: the standard deviation of the Gaussians; None for a 200th of the range of the nodes.
        at: the places [m] at which it is computed; None for places from a little before the first node to a little
            after the last one.

    Raises:
        UserError: as `ends`.
    """
    low, high = ends(surface, index)
    width = usual_bandwidth(low, high) if bandwidth is None else bandwidth
    where = places(low, high, width) if at is None else at
    point = tuple(float(axis[place]) for axis, place in zip(surface.axes, reversed(index), strict=True))
    each = []
    for nodes, weights in zip(surface.arrays[NODES][index], surface.arrays[WEIGHTS][index], strict=True):
        known = np.isfinite(nodes)
        away = (where[:, None] - nodes[known]) / width
        each.append(np.exp(-0.5 * away**2) @ weights[known] / (width * math.sqrt(2 * math.pi)))
    rows = np.stack(each)
    count = len(rows)
    error = rows.std(axis=0, ddof=1) / math.sqrt(count) if count > 1 else np.full(where.shape, np.nan)
    return Density(point, where, rows.mean(axis=0), error, width)
