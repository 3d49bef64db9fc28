"""The metric `loss`: the mean over a split of the loss that the job names, with its standard error."""

import numpy as np

from landscape_mpi.metrics.base import Floats, Ints, Metric, Result

QUANTILE = 1.96
"""Of the normal distribution, for 95 %."""


def relative_floor(means: Floats, variances: Floats, _: Ints, first: int) -> Floats:
    """Return 95 % error bars [G] of means: 1.96 sqrt(variance), and no less than |mean| / n_0.

    The floor is for points where the regressors explain every example seen, and not a few unseen.
    """
    return np.maximum(QUANTILE * np.sqrt(variances), np.abs(means) / first)


LOSS = Metric(
    key="loss",
    results=(Result("loss", "loss", "nats", shown=True),),
    of="examples",
    needs="nothing",
    cost="nothing: it is what a point is evaluated for",
    bars=relative_floor,
)
