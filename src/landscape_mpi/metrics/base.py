"""Defines what a metric declares, and the metrics `loss` and `accuracy`, which most jobs ask for; imports no torch.

Both are means over the examples of a split, with a standard error. `loss` is the mean of the loss that the job names.
`accuracy` is how many examples are classified right, in percent; with the loss of tokens, it is how many tokens are
predicted right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
QUANTILE = 1.96
"""The quantile of the normal distribution for 95 %."""
Bars = Callable[[Floats, Floats, Ints, int], Floats]
"""(means [G], variances [G], examples used [G], examples of the first level) -> 95 % error bars [G]."""


def relative_floor(means: Floats, variances: Floats, _: Ints, first: int) -> Floats:
    """Return 95 % error bars [G] of means: 1.96 sqrt(variance), and no less than |mean| / n_0.

    The floor is for points where the regressors explain every example seen, but fail for some unseen ones.
    """
    return np.maximum(QUANTILE * np.sqrt(variances), np.abs(means) / first)


@dataclass(frozen=True)
class Result:
    """A number that a metric gives at a point, or several along axes of its own, float64 in the file.

    Attributes:
        name: For a result of a split, the end of the dataset's name, `acc` of `train_acc`; else the whole name,
            `max_eig`.
        words: What figures call it, "accuracy".
        unit: nats, % or nothing. A result in % has error bars in points, all others have them relative to the mean.
        wild: Whether it may be NaN or infinite at a point that was computed.
        shown: Whether it is drawn along a line, and named in a caption, without being asked for.
        axes: For several numbers per point, the axes that they are counted along, by the keys of the job's section
            `hessian` that say how many there are; none for a single number.
    """

    name: str
    words: str
    unit: Literal["nats", "%", ""] = ""
    wild: bool = True
    shown: bool = False
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Metric:
    """What a job may ask for at every point.

    Attributes:
        key: What a job calls it.
        results: What it writes, in the order of the file.
        of: `examples`: means over the examples of each split, with a standard error each; `point`: numbers of the whole
            network.
        needs: `classes`: targets that are class indices; `gradients`: a network and a loss that can be differentiated
            twice; `network`: the network at the point, and inputs; `nothing`: only outputs and targets.
        cost: What it costs beside the evaluation of the loss, in words.
        compute: (outputs, targets) of some examples -> a tensor [n] for each result; with `network` and `inputs` by
            name where it needs them; None where the job's loss or a part of the sweep computes it.
        bars: Error bars of estimates from some of the examples.
        keys: The keys of the job's section `hessian` that its results depend on, beside `images` and `of`.
    """

    key: str
    results: tuple[Result, ...]
    of: Literal["examples", "point"]
    needs: Literal["nothing", "classes", "gradients", "network"]
    cost: str
    compute: Callable[..., dict[str, Any]] | None = None
    bars: Bars = relative_floor
    keys: tuple[str, ...] = ()


LOSS = Metric(
    key="loss",
    results=(Result("loss", "loss", "nats", shown=True),),
    of="examples",
    needs="nothing",
    cost="nothing: it is what a point is evaluated for",
)


def hits(outputs: Any, targets: Any) -> dict[str, Any]:
    """Return whether each of some examples is classified right, bool [n]; NaN logits are wrong.

    Args:
        outputs: Logits [n, classes], a tensor.
        targets: Classes, whole numbers [n], a tensor.
    """
    return {"acc": (outputs.argmax(1) == targets) & ~outputs.isnan().any(1)}


def rule_of_three(_: Floats, variances: Floats, examples: Ints, __: int) -> Floats:
    """Return 95 % error bars [G] of shares, means of 0 and 1: 1.96 sqrt(variance), and no less than 3 / n.

    The floor is the rule of three (Hanley and Lippman-Hand, JAMA 249, 1983): where none of n examples departs from the
    fit, up to 3 / n of all examples may. Without the floor, the bars of benchmarks/staircase.py covered .93 at 5 %;
    with it, they covered .96.
    """
    return np.maximum(QUANTILE * np.sqrt(variances), 3.0 / np.maximum(examples, 1))


def in_percent(_: Floats, variances: Floats, examples: Ints, __: int) -> Floats:
    """Return 95 % error bars [G] of shares in percent, as `rule_of_three`."""
    return np.maximum(QUANTILE * np.sqrt(variances), 300.0 / np.maximum(examples, 1))


ACCURACY = Metric(
    key="accuracy",
    results=(Result("acc", "accuracy", "%", wild=False, shown=True),),
    of="examples",
    needs="classes",
    cost="next to nothing: the largest output of each example",
    compute=hits,
    bars=in_percent,
)
