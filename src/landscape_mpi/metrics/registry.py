"""Lists the metrics that a job may name, in the order in which a surface holds them."""

import difflib
from collections.abc import Iterable

from landscape_mpi.metrics.accuracy import ACCURACY
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.loss import LOSS

METRICS = (LOSS, ACCURACY, HESSIAN)
USUAL = (LOSS.key, ACCURACY.key)
"""What a job asks for that names none."""


def mistake(key: str) -> str:
    """Return what was expected instead of a name that no metric has; empty for a metric's."""
    known = [one.key for one in METRICS]
    if key in known:
        return ""
    near = difflib.get_close_matches(key, known, n=1)
    return f"one of {', '.join(known)}{f' (did you mean `{near[0]}`?)' if near else ''}"


def asked(keys: Iterable[str]) -> tuple[Metric, ...]:
    """Return the metrics of a job, in the order of the file; the loss is always among them."""
    named = {LOSS.key, *keys}
    return tuple(one for one in METRICS if one.key in named)
