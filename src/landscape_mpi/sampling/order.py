"""Orders the examples of a split at random, and computes the probability that a prefix holds each of them.

Every evaluation of a job takes a prefix of this order, so points share their examples and a longer prefix holds every
shorter one. It is sequential Poisson sampling with probability proportional to size: Ohlsson, "Sequential Poisson
sampling", Journal of Official Statistics 14 (1998).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Frame:
    """The examples in the order in which they are evaluated (a sampling frame, in the words of surveys).

    `order` int64 [N]: the example at each place. `sizes` float64 [N] and `classes` int64 [N]: size and class code of
    the example at each place.
    """

    order: Ints
    sizes: Floats
    classes: Ints

    @property
    def examples(self) -> int:
        """N, the number of examples."""
        return len(self.order)


def make_frame(
    reference: NDArray[np.floating],
    labels: NDArray[np.integer] | None,
    seed: int,
    stream: int = 0,
    sizes: Floats | None = None,
) -> Frame:
    """Order the examples of a split.

    Args:
        reference: losses at theta* [N], in the order of the data.
        labels: class of each example [N]; None where there are none, which makes one class of all.
        seed: of the job, 0 to 2^64 - 1; another seed is another order.
        stream: 0 to 2^64 - 1, such as the number of the split, so that splits share no random numbers.
        sizes: of each example [N]; None for those by the losses at theta*.

    Raises:
        ValueError: there are no examples, or not one label per example.
    """
    n = len(reference)
    if not n or (labels is not None and len(labels) != n):
        found = "no labels" if labels is None else f"{len(labels)} labels"
        raise ValueError(f"found {n} losses at theta* and {found}; expected one per example; pass whole splits.")
    sizes = example_sizes(reference) if sizes is None else sizes
    order = example_order(sizes, uniforms(seed, n, stream))
    codes = np.zeros(n, np.int64) if labels is None else np.unique(labels, return_inverse=True)[1].astype(np.int64)
    return Frame(order, sizes[order], codes[order])


def in_order(examples: int) -> Frame:
    """Return the examples as the data have them, all alike: for splits of which all are used at every point."""
    return Frame(np.arange(examples), np.ones(examples), np.zeros(examples, np.int64))


def example_sizes(reference: NDArray[np.floating]) -> Floats:
    """Return the size of each example [N], s_i = 1/2 + 1/2 sqrt(l_i* / L*), l_i* its loss at theta* and L* their mean.

    The square root lies between taking all examples alike and taking them by their loss at theta*; the half keeps the
    weight of an example that is easy at theta* and hard elsewhere below twice the average. Losses that are negative
    count as 0; where the mean is 0 or some loss is not finite, all sizes are 1.
    """
    losses = np.maximum(np.asarray(reference, np.float64), 0.0)
    with np.errstate(all="ignore"):
        ratios = losses / losses.mean()
    return 0.5 + 0.5 * np.sqrt(ratios) if np.isfinite(ratios).all() else np.ones(len(losses))


def uniforms(seed: int, count: int, stream: int = 0) -> Floats:
    """Return u_i in (0, 1) for i = 0 .. count - 1, each a function of (seed, stream, i) alone.

    Philox is a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): number
    i is a hash of the counter i under the key, and NumPy promises that its raw stream stays.
    """
    raw = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(count)
    return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def example_order(sizes: Floats, uniform: Floats) -> Ints:
    """Return the examples [N] by ascending u_i / s_i; equals keep the order of the data."""
    return np.argsort(uniform / sizes, kind="stable").astype(np.int64)


def inclusion(sizes: Floats, n: int) -> Floats:
    """Return pi_i [N], how likely the first n places hold example i: min(1, n s_i / sum of s), summing to n.

    Where that exceeds 1 the example is taken for certain, and the rest share what is left of n among them, until no
    other exceeds 1 (Särndal, Swensson and Wretman, "Model assisted survey sampling", 1992, section 3.6.2). For
    sequential Poisson sampling these are approximate, and the better the larger n.

    Raises:
        ValueError: n is not within 0 .. N.
    """
    if not 0 <= n <= len(sizes):
        raise ValueError(f"found a prefix of {n} examples; expected 0 to {len(sizes)}; ask for fewer.")
    certain = np.zeros(len(sizes), bool)
    while (left := n - int(certain.sum())) > 0 and not certain.all():
        scaled = left * sizes / sizes[~certain].sum()
        more = ~certain & (scaled >= 1)
        if not more.any():
            return np.where(certain, 1.0, scaled)
        certain |= more
    return certain.astype(np.float64)
