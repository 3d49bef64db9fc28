"""Computes sums, means and standard errors that do not depend on the order of adding."""

import math

import numpy as np
from numpy.typing import NDArray


def exact_sum(values: NDArray[np.floating]) -> float:
    """Return the correctly rounded sum of [n], the same in every order; inf and NaN come through."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # beyond float64 on the way, or inf - inf
        with np.errstate(all="ignore"):
            return float(np.sum(np.asarray(values, np.float64)))


def exact_mean(values: NDArray[np.floating]) -> float:
    """Return the mean of [n] from the exact sum."""
    return exact_sum(values) / len(values)


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error, sd (n - 1) / sqrt(n); the error of a single value is NaN."""
    n = len(values)
    mean = exact_mean(values)
    if n < 2:
        return mean, math.nan
    with np.errstate(all="ignore"):
        squares = np.square(values - mean)
    return mean, math.sqrt(exact_sum(squares) / (n - 1) / n)
