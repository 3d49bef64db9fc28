"""Lists the metrics that a job may name, in the order in which a surface holds them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from landscape_mpi.metrics import own
from landscape_mpi.metrics.accuracy import ACCURACY
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.loss import LOSS
from landscape_mpi.plugin import is_plugin

METRICS = (LOSS, ACCURACY, HESSIAN)
USUAL = (LOSS.key, ACCURACY.key)
"""What a job asks for that names none."""


def mistake(key: str) -> str:
    """Return what was expected instead of a name that no metric has; empty for a metric's."""
    known = [one.key for one in METRICS]
    if key in known or is_plugin(key):
        return ""
    near = difflib.get_close_matches(key, known, n=1)
    return f"one of {', '.join(known)}, or `package.module:callable`{f' (did you mean `{near[0]}`?)' if near else ''}"


def asked(keys: Iterable[str], own_names: Mapping[str, Sequence[str]] = MappingProxyType({})) -> tuple[Metric, ...]:
    """Return the metrics of a job, in the order of the file; the loss is always among them.

    `own_names`: what the user's own metrics call their results, by key; those without are left out.
    """
    keys = tuple(keys)
    ours = tuple(one for one in METRICS if one.key in {LOSS.key, *keys})
    return (*ours, *(own.metric(key, own_names[key]) for key in keys if key in own_names))
