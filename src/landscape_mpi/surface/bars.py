"""What a surface says of its error bars and of the images behind them; reads no file."""

import math

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.metrics.names import BAR, IMAGES, SIZE, parse
from landscape_mpi.sampling import relative_bars
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.schema import DONE


def has_bars(surface: Surface, metric: str) -> bool:
    """Return whether a metric has error bars."""
    return metric + BAR in surface.metrics and metric in surface.metrics


def relative(surface: Surface, metric: str) -> NDArray[np.float64]:
    """Return a metric's 95 % error bars in percent of its values [ny, nx] or [nx]; NaN where there is no such share.

    A bar of 0, on all images, is 0 % of any value.
    """
    means, bars = surface.metrics[metric], surface.metrics[metric + BAR]
    shares = relative_bars(means.ravel(), bars.ravel()).reshape(means.shape)
    return np.where(bars == 0, 0.0, np.where(np.isfinite(shares), 100.0 * shares, np.nan))


def in_points(metric: str) -> bool:
    """Return whether a metric is in percent, so that its error bars are in points."""
    name = parse(metric)
    return name is not None and not name.spread and name.result.unit == "%"


def widest(surface: Surface, metric: str) -> float:
    """Return a metric's largest bar: in points of what is in percent, else in percent of the value; NaN without any."""
    bars = surface.metrics[metric + BAR] if in_points(metric) else relative(surface, metric)
    finite = bars[np.isfinite(bars)]
    return float(finite.max()) if finite.size else math.nan


def share_used(surface: Surface) -> float | None:
    """Return how many image evaluations the points stand on, relative to a full sweep; None where that is unknown."""
    used, full = 0.0, 0.0
    for name, images in surface.metrics.items():
        size = surface.attributes.get(name.replace(IMAGES, SIZE))
        if name.endswith(IMAGES) and isinstance(size, int):
            used += float(images[surface.status == DONE].sum())
            full += float(size * surface.points)
    return used / full if full else None
