"""What the name of a metric means, in words and units; knows nothing of files or of matplotlib."""

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<split>.+?)_(?P<what>loss|acc|err|images)(_(?P<spread>stderr|bar|relbar))?")
_SPLITS = {"train": "training"}
_WHAT = {"loss": "loss", "acc": "accuracy", "err": "error", "images": "images used"}
_SPREADS = {
    "stderr": "standard error of the ",
    "bar": "95 % error bar of the ",
    "relbar": "relative 95 % error bar of the ",
}
_OTHERS = {
    "min_eig": "smallest Hessian eigenvalue",
    "max_eig": "largest Hessian eigenvalue",
    "eig_ratio": r"$|\lambda_\mathrm{min} / \lambda_\mathrm{max}|$",
    "hessian_residual": "residual of the Hessian eigenvalues",
    "hessian_iterations": "products for the Hessian eigenvalues",
}
CURVATURE = frozenset(_OTHERS)
"""Metrics of the Hessian."""


@dataclass(frozen=True)
class Quantity:
    """A metric in words.

    Attributes:
        metric: its name in the file.
        words: such as "training loss".
        unit: nats, % or nothing.
        split: train, test, ...; None where it is of no split.
        what: loss, acc, err or images; None for others.
    """

    metric: str
    words: str
    unit: str = ""
    split: str | None = None
    what: str | None = None

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
    match = _NAME.fullmatch(metric)
    if match is None:
        return Quantity(metric, _OTHERS.get(metric, metric.replace("_", " ")))
    split, what, spread = match["split"], match["what"], match["spread"]
    units = {"loss": "nats" if nats else "", "acc": "%", "err": "%"}
    unit = "%" if spread == "relbar" else units.get(what, "")
    words = f"{_SPREADS.get(spread, '')}{_SPLITS.get(split, split)} {_WHAT[what]}"
    return Quantity(metric, words, unit, split, what)


def is_loss(metric: str) -> bool:
    """Return whether the metric is the mean loss of a split."""
    return metric.endswith("_loss")


def is_accuracy(metric: str) -> bool:
    """Return whether the metric is the accuracy of a split."""
    return metric.endswith("_acc")
