"""Says what the name of a metric means, in words and units, for figures."""

from dataclasses import dataclass

from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.names import RELATIVE, parse

_SPLITS = {"train": "training"}
RATIO = "eig_ratio"
"""The ratio of the Hessian's extreme eigenvalues, which is in no file."""
_RATIO_WORDS = r"$|\lambda_\mathrm{min} / \lambda_\mathrm{max}|$"
CURVATURE = frozenset({RATIO, *(result.name for result in HESSIAN.results)})
"""Metrics of the Hessian."""


@dataclass(frozen=True)
class Quantity:
    """A metric in words.

    Attributes:
        metric: its name in the file.
        words: such as "training loss".
        unit: nats, % or nothing.
        split: train, test, ...; None where it is of no split.
    """

    metric: str
    words: str
    unit: str = ""
    split: str | None = None

    @property
    def label(self) -> str:
        """The label of an axis: words and unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def split_words(self) -> str | None:
        """The split in words, such as "training"; None where it is of no split."""
        return self.split and _SPLITS.get(self.split, self.split)

    @property
    def general(self) -> str:
        """What it is in any split, such as "loss"."""
        return self.words.replace(f"{self.split_words} ", "", 1) if self.split else self.words


def quantity(metric: str, *, nats: bool) -> Quantity:
    """Return what a metric means.

    Args:
        metric: its name in the file, such as test_acc_stderr.
        nats: whether the loss is a cross entropy, which has a unit; other losses have none.
    """
    name = parse(metric)
    if name is None:
        return Quantity(metric, _RATIO_WORDS if metric == RATIO else metric.replace("_", " "))
    unit = "" if name.result.unit == "nats" and not nats else name.result.unit
    split = "" if name.split is None else f"{_SPLITS.get(name.split, name.split)} "
    words = f"{name.spread_words}{split}{name.result.words}"
    return Quantity(metric, words, "%" if name.spread == RELATIVE else unit, name.split)


def is_shown(metric: str) -> bool:
    """Return whether a metric is drawn along a line and named in captions without being asked for."""
    name = parse(metric)
    return name is not None and not name.spread and name.result.shown
