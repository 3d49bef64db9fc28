"""Lists the metrics that a job may name, in the order in which a surface holds them."""

from collections.abc import Iterable
from typing import Literal

from landscape_mpi.metrics.accuracy import ACCURACY
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.loss import LOSS

Key = Literal["loss", "accuracy", "hessian"]
"""What a job may name."""
METRICS = (LOSS, ACCURACY, HESSIAN)
USUAL: tuple[Key, ...] = ("loss", "accuracy")
"""What a job asks for that names none."""


def asked(keys: Iterable[str]) -> tuple[Metric, ...]:
    """Return the metrics of a job, in the order of the file; the loss is always among them."""
    named = {LOSS.key, *keys}
    return tuple(one for one in METRICS if one.key in named)
