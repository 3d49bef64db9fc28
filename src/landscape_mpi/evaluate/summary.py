"""Per-image losses and hits -> mean, accuracy and standard errors, summed in float64; knows no network."""

from collections.abc import Iterable

import numpy as np

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate.evaluator import Evaluator, PerImage, Point
from landscape_mpi.sums import mean_and_error


def measure(evaluator: Evaluator, point: Point, splits: Iterable[str], metrics: Iterable[str]) -> dict[str, float]:
    """Return the results of a point over all images, keyed as in the surface file: `train_loss`, `test_acc`, ..."""
    metrics = tuple(metrics)
    results: dict[str, float] = {}
    for split in splits:
        per_image = evaluator.per_image(point, split, slice(0, evaluator.count(split)))
        results |= {f"{split}_{name}": value for name, value in summarise(per_image, metrics).items()}
    return results


def summarise(per_image: PerImage, metrics: Iterable[str]) -> dict[str, float]:
    """Return `loss`, `loss_stderr` (nats) and, where asked for, `acc`, `acc_stderr` (percent).

    Raises:
        UserError: accuracy is asked for and the targets are no classes.
    """
    loss, loss_stderr = mean_and_error(per_image.losses)
    results = {"loss": loss, "loss_stderr": loss_stderr}
    if "accuracy" in metrics:
        if per_image.hits is None:
            raise UserError(
                "metrics: accuracy needs class targets [n] and outputs [n, classes]; write metrics: [loss]."
            )
        acc, acc_stderr = mean_and_error(per_image.hits.astype(np.float64) * 100.0)
        results |= {"acc": acc, "acc_stderr": acc_stderr}
    return results
