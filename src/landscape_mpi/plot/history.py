"""Draws training histories: losses and errors over epochs, norms of the weights, and their histograms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import FILE
from landscape_mpi.files.paths import found as found_at
from landscape_mpi.plot import labels, style
from landscape_mpi.plot.figure import Texts, panels, settle, write
from landscape_mpi.plot.options import HISTORY_KINDS, KINDS, Options
from landscape_mpi.plot.origin import plain
from landscape_mpi.plot.scale import number
from landscape_mpi.surface.training import COLUMNS, EDGES, is_history, learning_rate_drops, read_history

Values = NDArray[np.float64]

DEFAULT = "training"
TAIL = 0.001
"""The share of the weights that may lie beyond either end of the axis."""
MOST_BARS = 128
_INSIDE = len(EDGES) - 3
"""Bins of finite width."""
_SPLITS: Mapping[str, tuple[str, Literal["-", "--"]]] = {"train": ("training", "-"), "test": ("test", "--")}
_DECADES_FOR_LOG = 1.5
_FEW = 30


@dataclass(frozen=True, eq=False)
class History:
    """The history of one training run.

    Attributes:
        path: the file it was read from.
        label: its name in legends.
        columns: float64 [n] by the names of `EpochRecord`, a row per checkpoint; NaN where there is no finite number.
        counts: int64 [len(EDGES) - 1], the histogram of the weights of the last checkpoint; None in older files.
    """

    path: Path
    label: str
    columns: Mapping[str, Values]
    counts: NDArray[np.int64] | None

    @property
    def epoch(self) -> Values:
        """How many epochs each checkpoint was trained for, [n]."""
        return self.columns["epoch"]

    @property
    def drops(self) -> tuple[float, ...]:
        """After how many epochs the learning rate became smaller."""
        return tuple(self.epoch[learning_rate_drops(self.columns["lr"])].tolist())


def are_histories(paths: Sequence[Path], kind: str | None) -> bool:
    """Return whether the files are training histories; anything else is to be read as a surface.

    Raises:
        UserError: histories and other files are mixed, or the kind of picture is not one for these files.
    """
    found = [is_history(path) for path in paths]
    if any(found) and not all(found):
        history, other = paths[found.index(True)], paths[found.index(False)]
        raise UserError(other, f"is no training history, {history} is one", expected="one or the other in a figure")
    what, fitting, others = ("a", HISTORY_KINDS, KINDS) if found[0] else ("no", KINDS, HISTORY_KINDS)
    if kind and kind in others and (found[0] or found_at(paths[0]) == FILE):
        raise UserError(
            paths[0],
            (f"found {what} training history, which ", Flag("kind", (kind,)), " cannot draw"),
            expected=Flag("kind", tuple(fitting)),
        )
    return found[0]


def read_histories(paths: Sequence[Path]) -> list[History]:
    """Read histories and name them by their folders, as `train.output` says, or by their own names.

    A name is the shortest end of a path that tells the files apart.

    Raises:
        UserError: one of them is missing, is no history, or has no rows.
    """
    whole = [path.resolve() for path in paths]
    parts = [path.parent.parts if path.name == "history.h5" else path.with_suffix("").parts for path in whole]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            break
    return [_history(path, plain(name)) for path, name in zip(paths, names, strict=True)]


def _in_legends(name: str) -> str:
    """Return a name with a space before its leading underscore: matplotlib's legends leave out names that begin so."""
    return f" {name}" if name.startswith("_") else name


def _history(path: Path, label: str) -> History:
    records = read_history(path)
    if not records:
        raise UserError(path, "nothing to draw: the history has no rows", expected="one a checkpoint")
    columns = {}
    for name in (column.name for column in COLUMNS):
        try:
            values = np.array([getattr(record, name) for record in records], np.float64)
        except (TypeError, ValueError):
            values = np.empty(())
        if values.ndim != 1:
            raise UserError(path, f"{name} is not a row of numbers", expected="history.h5 of `train`")
        columns[name] = np.where(np.isfinite(values), values, np.nan)
    return History(path, label, columns, records[-1].weight_histogram)


def compose_histories(histories: Sequence[History], options: Options) -> Figure:
    """Draw training histories over each other.

    Raises:
        UserError: the options do not suit them.
    """
    for flag, found in (("metric", options.metric), ("levels", options.levels)):
        if found:
            raise UserError(Flag(flag), "figures of training histories have none", remedy="leave it out")
    names = labels.captioned([one.label for one in histories], options.captions, "file")
    histories = [replace(one, label=_in_legends(name)) for one, name in zip(histories, names, strict=True)]
    count, draw = PICTURES[options.kind or DEFAULT]
    with mpl.rc_context(style.RC):
        figure, axes = panels(count, style.LINE_PANEL, 0, None)
        facts = draw(axes, histories, options)
        title = labels.checked(options.title) if options.title else histories[0].label if len(histories) == 1 else None
        write(figure, [], Texts([], [], facts, title))
        settle(figure, [])
    return figure


def draw_training(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
    """Draw losses on the first panel and errors on the second, training solid, test dashed; return the facts."""
    losses, errors = axes
    shown = [split for split in _SPLITS if any(np.isfinite(h.columns[f"{split}_loss"]).any() for h in histories)]
    for split in shown:
        dash = _SPLITS[split][1]
        _curves(losses, histories, [h.columns[f"{split}_loss"] for h in histories], dash)
        _curves(errors, histories, [100 - h.columns[f"{split}_acc"] for h in histories], dash)
    values = _finite(histories, [h.columns[f"{split}_loss"] for h in histories for split in shown])
    _dress(losses, "loss", values, options)
    _dress(errors, "error (%)", np.empty(0), Options(log=False, low=0.0))
    dashes = [Line2D([], [], color=style.GREY, linestyle=_SPLITS[split][1], label=_SPLITS[split][0]) for split in shown]
    _legend(losses, [*_names(histories), *dashes])
    return _drops(axes, histories)


def draw_norm(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
    """Draw the norms of the weights, as in the paper's Figure 2; return the facts of the caption."""
    norms = [history.columns["weight_norm"] for history in histories]
    for history, values in zip(histories, norms, strict=True):
        if np.isnan(values).all():
            raise UserError(history.path, "holds no norms of weights: an older version wrote it", remedy="train again")
    _curves(axes[0], histories, norms, "-")
    _dress(axes[0], "norm of the weights", _finite(histories, norms), options)
    _legend(axes[0], _names(histories))
    return _drops(axes, histories)


def _legend(axes: Axes, handles: Sequence[Any]) -> None:
    """Explain colours and dashes where there is room, if there are several."""
    if len(handles) > 1:
        axes.legend(handles=list(handles), loc="best", framealpha=0.8, edgecolor="none", handlelength=2.4)


def _curves(axes: Axes, histories: Sequence[History], columns: Sequence[Values], dash: str) -> None:
    marker = "o" if max(history.epoch.size for history in histories) <= _FEW else None
    for history, values, colour in zip(histories, columns, style.series_colours(len(histories)), strict=True):
        axes.plot(history.epoch, values, dash, color=colour, marker=marker, markersize=2.5, label=history.label)


def _names(histories: Sequence[History]) -> list[Line2D]:
    """Return the legend's entries of the files; none where there is one file alone."""
    if len(histories) == 1:
        return []
    colours = style.series_colours(len(histories))
    return [Line2D([], [], color=colour, label=h.label) for h, colour in zip(histories, colours, strict=True)]


def _drops(axes: Sequence[Axes], histories: Sequence[History]) -> list[str]:
    """Mark where learning rates drop: in grey where all do so together, else in the colours of the files."""
    schedule = max((history.drops for history in histories), key=len)
    so_far = [tuple(epoch for epoch in schedule if epoch < history.epoch[-1]) for history in histories]
    together = so_far == [history.drops for history in histories]
    colours = style.series_colours(len(histories))
    marked = [(schedule, style.GREY)] if together else [(h.drops, c) for h, c in zip(histories, colours, strict=True)]
    for drops, colour in marked:
        for epoch in drops:
            for panel in axes:
                panel.axvline(epoch, color=colour, linestyle=":", linewidth=0.8, zorder=0, gid="drop")
    return ["dotted: the learning rate drops"] if schedule else []


def _finite(histories: Sequence[History], columns: Sequence[Values]) -> Values:
    every = np.concatenate([np.empty(0), *columns])
    values: Values = every[np.isfinite(every)]
    if not values.size:
        raise UserError(histories[0].path, "nothing to draw: no epoch has a finite value")
    return values


def _dress(axes: Axes, label: str, values: Values, options: Options) -> None:
    """Label and scale the axes; the vertical one is logarithmic over decades, or as asked."""
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    positive = values[values > 0]
    decades = np.log10(positive.max() / positive.min()) if positive.size == values.size > 0 else 0.0
    _scale_vertical(axes, values, options, log=bool(decades > _DECADES_FOR_LOG) if options.log is None else options.log)


def _scale_vertical(axes: Axes, values: Values, options: Options, *, log: bool) -> None:
    """Set whether the vertical axis is logarithmic, and its ends as asked.

    Raises:
        UserError: the options contradict themselves or the values.
    """
    low, high = options.low, options.high
    if log:
        if not (values > 0).any():
            raise UserError(Flag("log"), "no value is above 0", remedy=("use ", Flag("linear")))
        for flag, end in (("vmin", low), ("vmax", high)):
            if end is not None and end <= 0:
                raise UserError(
                    Flag(flag), f"found {end:g}", remedy=("a log scale needs values above 0: use ", Flag("linear"))
                )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(number))
        axes.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = axes.get_ylim()
    if not (bottom if low is None else low) < (top if high is None else high):
        raise UserError(
            (Flag("vmin"), " and ", Flag("vmax")),
            f"found {low} to {high}",
            expected="an ascending range around the values",
        )
    axes.set_ylim(low, high)


@dataclass(frozen=True, eq=False)
class Bars:
    """Histograms in bars that all of them share.

    Attributes:
        edges: float64 [n + 1], where the bars begin and end.
        width: the width of a bar, in bins of the file.
        shares: float64 [n] each, the percentage of the weights in each bar.
    """

    edges: Values
    width: int
    shares: Sequence[Values]


def draw_weights(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
    """Draw the weights of the last checkpoints, as in the paper's Figure 2; return the facts of the caption."""
    counts = []
    for history in histories:
        if history.counts is None:
            raise UserError(
                history.path, "holds no histograms of weights: an older version wrote it", remedy="train again"
            )
        if (history.counts < 0).any() or not history.counts.any():
            raise UserError(history.path, "its last histogram counts no weights", expected="history.h5 of `train`")
        counts.append(history.counts)
    bars = bars_of(counts)
    colours, (panel,) = style.series_colours(len(histories)), axes
    for share, colour in zip(bars.shares, colours, strict=True):
        panel.stairs(share, bars.edges, fill=True, color=colour, alpha=0.25)
        panel.stairs(share, bars.edges, color=colour, linewidth=1.0)
    panel.set_xlim(bars.edges[0], bars.edges[-1])
    panel.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    panel.set_xlabel("weight")
    panel.set_ylabel(f"weights in a bar of 1/{1024 // bars.width} (%)")
    _scale_vertical(panel, np.concatenate([*bars.shares]), options, log=bool(options.log))
    if len(histories) > 1:
        pairs = zip(histories, colours, strict=True)
        _legend(panel, [Patch(facecolor=(colour, 0.25), edgecolor=colour, label=h.label) for h, colour in pairs])
    facts = []
    for history, share in zip(histories, bars.shares, strict=True):
        beyond = 100 - share.sum()
        name = f"{history.label.strip()}: " if len(histories) > 1 else ""
        tail = f", {beyond:.2g} % of the weights beyond the axis" if beyond > 1e-9 else ""
        facts.append(f"{name}{history.epoch[-1]:.0f} epochs{tail}")
    return facts


def bars_of(counts: Sequence[NDArray[np.int64]]) -> Bars:
    """Return histograms on the narrowest axis that leaves 0.1 % of the weights of each beyond either end.

    The width of a bar is a power of two in bins of the file. There are at most 128 bars.

    Args:
        counts: int64 [len(EDGES) - 1] each, none of them empty.
    """
    below = [np.cumsum(each) / each.sum() for each in counts]
    first = min(int(np.searchsorted(each, TAIL, "right")) for each in below) - 1
    last = max(int(np.searchsorted(each, 1 - TAIL)) for each in below) - 1
    first, last = max(0, min(first, _INSIDE - 1)), max(0, min(last, _INSIDE - 1))
    width = 1
    while last // width - first // width + 1 > MOST_BARS:
        width *= 2
    start, stop = first // width * width, (last // width + 1) * width
    inner = [each[1 + start : 1 + stop].reshape(-1, width).sum(axis=1) for each in counts]
    shares = [100 * bars / each.sum() for bars, each in zip(inner, counts, strict=True)]
    return Bars(EDGES[1 + start : 2 + stop : width], width, shares)


PICTURES: Mapping[str, tuple[int, Callable[[Sequence[Axes], Sequence[History], Options], list[str]]]] = {
    "training": (2, draw_training),
    "norm": (1, draw_norm),
    "weights": (1, draw_weights),
}
"""How many panels a kind of picture has, and the function that draws on them and returns the facts of the caption."""
