"""Holds what each of some examples gave at a point, its loss and what other metrics say of it; takes their means.

Sums, means and standard errors do not depend on the order of adding.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import Key, UserError
from landscape_mpi.metrics.base import LOSS, Floats, Metric, Result
from landscape_mpi.metrics.registry import STDERR


@dataclass(frozen=True)
class PerExample:
    """What each of some examples gave at a point.

    Attributes:
        losses: Float64, [n].
        others: What other metrics say, [n], by the names of their results: `acc` bool, others float64.
    """

    losses: Floats
    others: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.losses)

    def __getitem__(self, which: slice | NDArray[np.generic]) -> "PerExample":
        """Return what some of the examples gave, by their places or by a mask."""
        return PerExample(self.losses[which], {name: values[which] for name, values in self.others.items()})

    def numbers(self, result: Result) -> Floats:
        """Return the numbers [n] whose mean is a result, in its unit.

        Raises:
            KeyError: they are not there.
        """
        if result in LOSS.results:
            return self.losses
        values = self.others[result.name].astype(np.float64, copy=False)
        return 100.0 * values if result.unit == "%" else values

    @staticmethod
    def join(parts: "Sequence[PerExample]") -> "PerExample":
        """Concatenate the results of several parts, in order; for other metrics, only results that all parts have."""
        names = [name for name in parts[0].others if all(name in part.others for part in parts)]
        others = {name: np.concatenate([part.others[name] for part in parts]) for name in names}
        return PerExample(np.concatenate([part.losses for part in parts]), others)


def summarise(found: Mapping[str, PerExample], metrics: Iterable[Metric]) -> dict[str, float]:
    """Return the means of what the examples of each split gave, `train_loss`, `train_loss_stderr`, `train_acc`, ...

    They are float64, and do not depend on the order of the sums.

    Raises:
        UserError: accuracy is asked for and the targets are no classes.
    """
    results: dict[str, float] = {}
    asked = [(metric, result) for metric in metrics if metric.of == "examples" for result in metric.results]
    for split, per_example in found.items():
        for metric, result in asked:
            if metric.needs == "classes" and result.name not in per_example.others:
                raise UserError(
                    "metrics",
                    f"{metric.key} needs class targets [n] and outputs [n, classes]",
                    remedy=("write ", Key("metrics", ("loss",))),
                )
            name = f"{split}_{result.name}"
            results[name], results[name + STDERR] = mean_and_error(per_example.numbers(result))
    return results


def exact_sum(values: NDArray[np.floating]) -> float:
    """Return the correctly rounded sum of [n], the same in every order; with inf or NaN it is inf or NaN."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # a partial sum beyond float64, or inf - inf
        with np.errstate(all="ignore"):
            return float(np.sum(np.asarray(values, np.float64)))


def exact_mean(values: NDArray[np.floating]) -> float:
    """Return the mean of [n] from the exact sum."""
    return exact_sum(values) / len(values)


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean and its standard error, sd / sqrt(n), sd with n - 1; the error of a single value is NaN."""
    n = len(values)
    mean = exact_mean(values)
    if n < 2:
        return mean, math.nan
    with np.errstate(all="ignore"):
        squares = np.square(values - mean)
    return mean, math.sqrt(exact_sum(squares) / (n - 1) / n)
