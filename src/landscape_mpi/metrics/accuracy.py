"""The metric `accuracy`: how many examples of a split are classified right, in percent, with its standard error."""

from typing import Any

import numpy as np

from landscape_mpi.metrics.base import QUANTILE, Floats, Ints, Metric, Result


def hits(outputs: Any, targets: Any) -> dict[str, Any]:
    """Return whether each of some examples is classified right, bool [n]; NaN logits are wrong.

    Args:
        outputs: Logits [n, classes], a tensor.
        targets: Classes, whole numbers [n], a tensor.
    """
    return {"acc": (outputs.argmax(1) == targets) & ~outputs.isnan().any(1)}


def rule_of_three(_: Floats, variances: Floats, examples: Ints, __: int) -> Floats:
    """Return 95 % error bars [G] of accuracies in percent: 1.96 sqrt(variance), and no less than 300 / n.

    The floor is the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983): where none of n examples departs from the
    fit, up to 3 / n of all may. Without it the bars of benchmarks/staircase.py covered .93 at 5 %, with it .96.
    """
    return np.maximum(QUANTILE * np.sqrt(variances), 300.0 / np.maximum(examples, 1))


ACCURACY = Metric(
    key="accuracy",
    results=(Result("acc", "accuracy", "%", wild=False, shown=True),),
    of="examples",
    needs="classes",
    cost="next to nothing: the largest output of each example",
    compute=hits,
    bars=rule_of_three,
)
