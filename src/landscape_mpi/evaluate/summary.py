"""Computes means and standard errors of results of examples, in float64 and whatever the order of the sums."""

from collections.abc import Iterable, Mapping

from landscape_mpi.errors import Key, UserError
from landscape_mpi.evaluate.evaluator import Evaluator, Point
from landscape_mpi.metrics.base import Metric
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.metrics.names import STDERR
from landscape_mpi.sums import mean_and_error


def measure(evaluator: Evaluator, point: Point, splits: Iterable[str], metrics: Iterable[Metric]) -> dict[str, float]:
    """Return the results of a point over all examples, keyed as in the surface file: `train_loss`, `test_acc`, ..."""
    everything = {split: slice(0, evaluator.count(split)) for split in splits}
    return summarise({split: evaluator.per_example(point, split, some) for split, some in everything.items()}, metrics)


def summarise(found: Mapping[str, PerExample], metrics: Iterable[Metric]) -> dict[str, float]:
    """Return the means of what the examples of each split gave, `train_loss`, `train_loss_stderr`, `train_acc`, ...

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
