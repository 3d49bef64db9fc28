"""Curves over epochs: losses and errors, and norms of weights; knows nothing of files or of other pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from landscape_mpi.errors import UserError
from landscape_mpi.plot.history import History
from landscape_mpi.plot.levels import number
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.style import GREY, series_colours

Values = NDArray[np.float64]

_SPLITS: Mapping[str, tuple[str, Literal["-", "--"]]] = {"train": ("training", "-"), "test": ("test", "--")}
_DECADES_FOR_LOG = 1.5
_FEW = 30


def training(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
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
    dashes = [Line2D([], [], color=GREY, linestyle=_SPLITS[split][1], label=_SPLITS[split][0]) for split in shown]
    legend(losses, [*_names(histories), *dashes])
    return _drops(axes, histories)


def norm(axes: Sequence[Axes], histories: Sequence[History], options: Options) -> list[str]:
    """Draw the norms of the weights, as in the paper's Figure 2; return the facts of the caption."""
    norms = [history.columns["weight_norm"] for history in histories]
    for history, values in zip(histories, norms, strict=True):
        if np.isnan(values).all():
            raise UserError(f"{history.path}: holds no norms of weights: an older version wrote it; train again.")
    _curves(axes[0], histories, norms, "-")
    _dress(axes[0], "norm of the weights", _finite(histories, norms), options)
    legend(axes[0], _names(histories))
    return _drops(axes, histories)


def legend(axes: Axes, handles: Sequence[Any]) -> None:
    """Explain colours and dashes where there is room, if there is anything to tell apart."""
    if len(handles) > 1:
        axes.legend(handles=list(handles), loc="best", framealpha=0.8, edgecolor="none", handlelength=2.4)


def _curves(axes: Axes, histories: Sequence[History], columns: Sequence[Values], dash: str) -> None:
    marker = "o" if max(history.epoch.size for history in histories) <= _FEW else None
    for history, values, colour in zip(histories, columns, series_colours(len(histories)), strict=True):
        axes.plot(history.epoch, values, dash, color=colour, marker=marker, markersize=2.5, label=history.label)


def _names(histories: Sequence[History]) -> list[Line2D]:
    """Return what a legend says of the files: nothing where there is but one."""
    if len(histories) == 1:
        return []
    colours = series_colours(len(histories))
    return [Line2D([], [], color=colour, label=h.label) for h, colour in zip(histories, colours, strict=True)]


def _drops(axes: Sequence[Axes], histories: Sequence[History]) -> list[str]:
    """Mark where learning rates drop: in grey where all do so together, else in the colours of the files."""
    schedule = max((history.drops for history in histories), key=len)
    together = all(history.drops == _so_far(schedule, history) for history in histories)
    colours = series_colours(len(histories))
    marked = [(schedule, GREY)] if together else [(h.drops, c) for h, c in zip(histories, colours, strict=True)]
    for drops, colour in marked:
        for epoch in drops:
            for panel in axes:
                panel.axvline(epoch, color=colour, linestyle=":", linewidth=0.8, zorder=0, gid="drop")
    return ["dotted: the learning rate drops"] if schedule else []


def _so_far(schedule: Sequence[float], history: History) -> tuple[float, ...]:
    """Return the drops that a run has come to."""
    return tuple(epoch for epoch in schedule if epoch < history.epoch[-1])


def _finite(histories: Sequence[History], columns: Sequence[Values]) -> Values:
    every = np.concatenate([np.empty(0), *columns])
    values: Values = every[np.isfinite(every)]
    if not values.size:
        raise UserError(f"{histories[0].path}: nothing to draw: no epoch has a finite value.")
    return values


def _dress(axes: Axes, label: str, values: Values, options: Options) -> None:
    """Label and scale the axes; the vertical one is logarithmic over decades, or as asked."""
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    scale_vertical(axes, values, options, log=_spans_decades(values) if options.log is None else options.log)


def scale_vertical(axes: Axes, values: Values, options: Options, *, log: bool) -> None:
    """Set whether the vertical axis is logarithmic, and its ends as asked.

    Raises:
        UserError: the options contradict themselves or the values.
    """
    low, high = options.low, options.high
    if log:
        if not (values > 0).any():
            raise UserError("--log: no value is above 0; use --linear.")
        for flag, end in (("--vmin", low), ("--vmax", high)):
            if end is not None and end <= 0:
                raise UserError(f"{flag}: found {end:g}; a log scale needs values above 0: use --linear.")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(number))
        axes.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = axes.get_ylim()
    if not (bottom if low is None else low) < (top if high is None else high):
        raise UserError(f"--vmin and --vmax: found {low} to {high}; expected an ascending range around the values.")
    axes.set_ylim(low, high)


def _spans_decades(values: Values) -> bool:
    positive = values[values > 0]
    return positive.size == values.size > 0 and bool(np.log10(positive.max() / positive.min()) > _DECADES_FOR_LOG)
