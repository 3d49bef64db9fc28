"""Histograms of weights, one over the other; knows nothing of files or of other pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.plot.epochs import legend, scale_vertical
from landscape_mpi.plot.history import History
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.style import series_colours
from landscape_mpi.surface.history import EDGES

Values = NDArray[np.float64]

TAIL = 0.001
"""The share of the weights that may lie beyond either end of the axis."""
MOST_BARS = 128
_INSIDE = len(EDGES) - 3
"""Bins of finite width."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Histograms in bars that all of them share.

    Attributes:
        edges: float64 [n + 1], where the bars begin and end.
        width: of a bar, in bins of the file.
        shares: float64 [n] each, the percentage of the weights in each bar.
    """

    edges: Values
    width: int
    shares: Sequence[Values]


def draw(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
    """Draw the weights of the last checkpoints, as in the paper's Figure 2; return the facts of the caption."""
    bars = bars_of([_counts(history) for history in histories])
    colours, (panel,) = series_colours(len(histories)), axes
    for share, colour in zip(bars.shares, colours, strict=True):
        panel.stairs(share, bars.edges, fill=True, color=colour, alpha=0.25)
        panel.stairs(share, bars.edges, color=colour, linewidth=1.0)
    panel.set_xlim(bars.edges[0], bars.edges[-1])
    panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    panel.set_xlabel("weight")
    panel.set_ylabel(f"weights in a bar of 1/{1024 // bars.width} (%)")
    scale_vertical(panel, np.concatenate([*bars.shares]), options, log=bool(options.log))
    if len(histories) > 1:
        pairs = zip(histories, colours, strict=True)
        legend(panel, [Patch(facecolor=(colour, 0.25), edgecolor=colour, label=h.label) for h, colour in pairs])
    return _facts(histories, bars)


def bars_of(counts: Sequence[NDArray[np.int64]]) -> Bars:
    """Return histograms on the narrowest axis that leaves 0.1 % of the weights of each beyond either end.

    Bars are a power of two of the file's bins wide, at most 128 of them.

    Args:
        counts: int64 [len(EDGES) - 1] each, none of them empty.
    """
    ends = [_ends(each) for each in counts]
    first, last = min(low for low, _ in ends), max(high for _, high in ends)
    width = 1
    while last // width - first // width + 1 > MOST_BARS:
        width *= 2
    start, stop = first // width * width, (last // width + 1) * width
    inner = [each[1 + start : 1 + stop].reshape(-1, width).sum(axis=1) for each in counts]
    shares = [100 * bars / each.sum() for bars, each in zip(inner, counts, strict=True)]
    return Bars(EDGES[1 + start : 2 + stop : width], width, shares)


def _ends(counts: NDArray[np.int64]) -> tuple[int, int]:
    """Return the first and the last bin of finite width that the axis has to show."""
    below = np.cumsum(counts) / counts.sum()
    first, last = np.searchsorted(below, TAIL, "right") - 1, np.searchsorted(below, 1 - TAIL) - 1
    return int(np.clip(first, 0, _INSIDE - 1)), int(np.clip(last, 0, _INSIDE - 1))


def _counts(history: History) -> NDArray[np.int64]:
    if history.counts is None:
        raise UserError(f"{history.path}: holds no histograms of weights: an older version wrote it; train again.")
    if (history.counts < 0).any() or not history.counts.any():
        raise UserError(f"{history.path}: its last histogram counts no weights; expected history.h5 of `train`.")
    return history.counts


def _facts(histories: Sequence[History], bars: Bars) -> list[str]:
    """Return after how many epochs each histogram was taken, and how much of it lies beyond the axis."""
    facts = []
    for history, share in zip(histories, bars.shares, strict=True):
        beyond = 100 - share.sum()
        name = f"{history.label.strip()}: " if len(histories) > 1 else ""
        tail = f", {beyond:.2g} % of the weights beyond the axis" if beyond > 1e-9 else ""
        facts.append(f"{name}{history.epoch[-1]:.0f} epochs{tail}")
    return facts
