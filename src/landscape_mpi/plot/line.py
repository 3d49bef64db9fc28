"""Losses and accuracies along a line, as in the paper's Figure 2; knows nothing of files or of other pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from landscape_mpi.metrics.accuracy import ACCURACY
from landscape_mpi.metrics.names import is_mean
from landscape_mpi.plot import band, path
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.labels import alpha_label
from landscape_mpi.plot.levels import number
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.scale import Scale, scale_of
from landscape_mpi.plot.style import BLUE, FAINT, GREY, LEGEND_COLUMNS, RED

_FEW = 30
_ROOM = 0.04


@dataclass(frozen=True)
class Side:
    """A vertical axis that all panels share: its metrics, colour, label and scale."""

    metrics: frozenset[str]
    colour: str
    label: str
    scale: Scale


Repeats = Sequence[Field]
"""One metric along a line; several where the line was repeated along other random directions."""


def sides_of(panels: Sequence[Sequence[Repeats]], options: Options) -> list[Side]:
    """Return the left axis and, where losses and accuracies are shown together, the right one."""
    every = [field for metrics in panels for fields in metrics for field in fields]
    accuracies = [field for field in every if is_mean(field.quantity.metric, ACCURACY)]
    others = [field for field in every if field not in accuracies]
    if not others:
        return [_side(accuracies, options, RED)]
    sides = [_side(others, options, BLUE)]
    return [*sides, _side(accuracies, Options(low=0, high=100), RED)] if accuracies else sides


def draw(axes: Axes, metrics: Sequence[Repeats], sides: Sequence[Side]) -> list[Line2D]:
    """Draw metrics along a line; a second side gets a twin of the axes.

    Returns:
        The curves, side by side in the order of the metrics.
    """
    first = metrics[0][0]
    axes.set_xlabel(alpha_label(first.origin))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(_stretched(float(first.alpha.min()), float(first.alpha.max()), 0))
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.5)
    curves = []
    for index, side in enumerate(sides):
        own = axes.twinx() if index else axes
        _dress(own, side)
        curves += [_curve(own, fields, side) for fields in metrics if fields[0].quantity.metric in side.metrics]
    marks = path.draw_along(axes, first) if len(metrics[0]) == 1 else []
    dashes = _dashes(_splits(fields[0] for fields in metrics))
    if marks:
        path.legend(axes, [*dashes, *marks])
    elif dashes:
        _legend(axes, dashes)
    return curves


def _side(fields: Sequence[Field], options: Options, colour: str) -> Side:
    metrics = {field.quantity.metric: field.quantity for field in fields}
    first = fields[0].quantity
    label = first.label if len(metrics) == 1 else first.label.removeprefix(first.words.rpartition(" ")[0]).strip()
    return Side(frozenset(metrics), colour, label, scale_of(fields, options))


def _curve(axes: Axes, fields: Repeats, side: Side) -> Line2D:
    """Draw one metric, over points not done yet but not over NaN or inf; a band where it has error bars."""
    field = fields[0]
    if len(fields) > 1:
        return band.draw(axes, fields, side.scale, side.colour, _dash(field.quantity.split))
    marked = field.surface.points <= _FEW or not field.surface.filled
    if field.bars is not None:
        _band(axes, field, field.bars, side)
    (curve,) = axes.plot(
        field.alpha[field.done],
        side.scale.lift(field.values[field.done]),
        linestyle=_dash(field.quantity.split),
        color=side.colour,
        marker="o" if marked else None,
        markersize=2.5,
        label=field.quantity.words,
    )
    return curve


def _band(axes: Axes, field: Field, bars: NDArray[np.float64], side: Side) -> None:
    """Shade what lies within the error bars; on a log scale down to its lower end."""
    values, bars = field.values[field.done], bars[field.done]
    lower = np.maximum(values - bars, side.scale.low / 10) if side.scale.log else values - bars
    axes.fill_between(field.alpha[field.done], lower, values + bars, color=side.colour, alpha=0.25, linewidth=0)


def _dress(axes: Axes, side: Side) -> None:
    """Scale, label and colour a vertical axis."""
    scale = side.scale
    if scale.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(number))
        axes.yaxis.set_minor_formatter(NullFormatter())
        room = (scale.high / scale.low) ** _ROOM
        axes.set_ylim(scale.low / room, scale.high * room)
    else:
        axes.set_ylim(_stretched(scale.low, scale.high, _ROOM))
    axes.set_ylabel(side.label, color=side.colour)
    axes.tick_params(axis="y", which="both", colors=side.colour)


def _stretched(low: float, high: float, room: float) -> tuple[float, float]:
    extra = (high - low) * room or (0.5 if low == high else 0)
    return low - extra, high + extra


def _dash(split: str | None) -> Literal["-", "--", ":"]:
    return "--" if split == "test" else "-" if split in ("train", None) else ":"


def _splits(fields: Iterable[Field]) -> dict[str, str]:
    """Return the splits shown and what they are called, in the order of the fields."""
    quantities = (field.quantity for field in fields)
    return {each.split: each.words.rpartition(" ")[0] for each in quantities if each.split}


def _dashes(splits: dict[str, str]) -> list[Line2D]:
    """Return which dashes are which split, where there are several; the colours are those of the axes."""
    dashed = [Line2D([], [], color=GREY, linestyle=_dash(split), label=name) for split, name in splits.items()]
    return dashed if len(dashed) > 1 else []


def _legend(axes: Axes, handles: Sequence[Line2D]) -> None:
    """Say above the axes which dashes are which split."""
    axes.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncol=min(len(handles), LEGEND_COLUMNS),
        frameon=False,
        borderaxespad=0.1,
        handlelength=2.6,
    )
