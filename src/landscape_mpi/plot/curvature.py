"""The map of |lambda_min / lambda_max|, as in the paper's Figure 7: its values and its usual scale; draws nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.plot.options import Options
from landscape_mpi.plot.quantity import RATIO
from landscape_mpi.surface.read import Surface

ENDS = ("min_eig", "max_eig")
HIGHEST = 0.5
"""The upper end of the paper's colour scale."""


def has_ratio(surface: Surface) -> bool:
    """Return whether a surface knows both ends of the spectrum."""
    return all(name in surface.metrics for name in ENDS)


def ratio(surface: Surface) -> NDArray[np.float64]:
    """Return |lambda_min / lambda_max| (Li et al., section 6) at every point, the shape of the surface.

    NaN where nothing is done, inf where lambda_max is 0.
    """
    smallest, largest = (surface.metrics[name] for name in ENDS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(smallest / largest)


def as_usual(options: Options, surfaces: Sequence[Surface]) -> Options:
    """Return the options for the ratio with the paper's filled map and its scale, where nothing else is asked for."""
    if options.metric != RATIO or not all(map(has_ratio, surfaces)):
        return options
    every = np.concatenate([ratio(surface).ravel() for surface in surfaces])
    finite = every[np.isfinite(every)]
    kind = options.kind or (None if surfaces[0].is_line else "filled")
    asked = options.log or options.levels or options.low is not None or options.high is not None
    if asked or not finite.size or finite.min() > HIGHEST:
        return replace(options, kind=kind)
    return replace(options, kind=kind, log=False, low=0.0, high=HIGHEST)
