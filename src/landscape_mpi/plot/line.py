"""Draws losses and accuracies along lines (the paper's Figure 2), and a band of several random directions."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from landscape_mpi.metrics.base import ACCURACY
from landscape_mpi.metrics.registry import is_mean
from landscape_mpi.plot import path
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.labels import alpha_label
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import document_of
from landscape_mpi.plot.scale import Scale, number, scale_of
from landscape_mpi.plot.style import BLUE, FAINT, GREY, LEGEND_COLUMNS, RED
from landscape_mpi.surface.read import Surface

_FEW = 30
_ROOM = 0.04
_PLACES = (("output",), ("train",), ("model", "checkpoint"), ("data", "root"), ("plane", "seed"), ("plane", "repeats"))
"""Keys in which repeats may differ; checkpoint and data are compared by their fingerprints."""
_FINGERPRINTS = ("checkpoint_sha256", "data_sha256")


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
        _draw_floor(own, [field for fields in metrics for field in fields if field.quantity.metric in side.metrics])
        curves += [
            _curve(own, fields[0], side) if len(fields) == 1 else _band(own, fields, side)
            for fields in metrics
            if fields[0].quantity.metric in side.metrics
        ]
    quantities = [fields[0].quantity for fields in metrics]
    splits = {each.split: each.words.rpartition(" ")[0] for each in quantities if each.split}
    dashes = [Line2D([], [], color=GREY, linestyle=_dash(split), label=name) for split, name in splits.items()]
    dashes = dashes if len(dashes) > 1 else []
    marks = path.draw_along(axes, first) if len(metrics[0]) == 1 else []
    if marks:
        path.legend(axes, [*dashes, *marks])
    elif dashes:
        axes.legend(
            handles=dashes,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncol=min(len(dashes), LEGEND_COLUMNS),
            frameon=False,
            borderaxespad=0.1,
            handlelength=2.6,
        )
    return curves


def _side(fields: Sequence[Field], options: Options, colour: str) -> Side:
    metrics = {field.quantity.metric: field.quantity for field in fields}
    first = fields[0].quantity
    label = first.label if len(metrics) == 1 else first.label.removeprefix(first.words.rpartition(" ")[0]).strip()
    return Side(frozenset(metrics), colour, label, scale_of(fields, options))


def _curve(axes: Axes, field: Field, side: Side) -> Line2D:
    """Draw one metric, over points not done yet but not over NaN or inf, and shade its error bars if it has any."""
    alpha, values = field.alpha[field.done], field.values[field.done]
    if field.bars is not None:
        bars = field.bars[field.done]
        # on a log scale down to its lower end
        lower = np.maximum(values - bars, side.scale.low / 10) if side.scale.log else values - bars
        axes.fill_between(alpha, lower, values + bars, color=side.colour, alpha=0.25, linewidth=0)
    marked = field.surface.points <= _FEW or not field.surface.filled
    (curve,) = axes.plot(
        alpha,
        side.scale.lift(values),
        linestyle=_dash(field.quantity.split),
        color=side.colour,
        marker="o" if marked else None,
        markersize=2.5,
        label=field.quantity.words,
    )
    return curve


def _draw_floor(axes: Axes, fields: Repeats) -> None:
    """Shade the losses around f(0, 0) of each metric among which rounding decides."""
    bands: dict[float, float] = {}
    for field in fields:
        if field.floor is not None and field.centre is not None:
            bands[field.centre] = max(bands.get(field.centre, 0.0), field.floor)
    for centre, floor in bands.items():
        low = max(centre - floor, axes.get_ylim()[0]) if axes.get_yscale() == "log" else centre - floor
        axes.axhspan(low, centre + floor, color=GREY, alpha=0.18, linewidth=0, zorder=0.5, gid="floor")


def _band(axes: Axes, fields: Repeats, side: Side) -> Line2D:
    """Draw one metric along several random directions: its median, its range shaded, and each of them thin.

    Median and range are those of the finite results; where no result is finite there is a gap.

    Returns:
        The median's curve.
    """
    colour, dash = side.colour, _dash(fields[0].quantity.split)
    alpha, done = fields[0].alpha, np.any([field.done for field in fields], axis=0)
    values = np.stack([side.scale.lift(field.values) for field in fields])
    finite = np.isfinite(values).any(axis=0)
    low, middle, high = (np.full(alpha.shape, np.nan) for _ in range(3))
    low[finite], high[finite] = np.nanmin(values[:, finite], axis=0), np.nanmax(values[:, finite], axis=0)
    middle[finite] = np.nanmedian(values[:, finite], axis=0)
    axes.fill_between(alpha[done], low[done], high[done], color=colour, alpha=0.16, linewidth=0)
    for field, row in zip(fields, values, strict=True):
        axes.plot(alpha[field.done], row[field.done], dash, color=colour, linewidth=0.4, alpha=0.45, gid="repeat")
    (curve,) = axes.plot(alpha[done], middle[done], dash, color=colour, label=fields[0].quantity.words)
    return curve


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


def grouped(surfaces: Sequence[Surface]) -> list[list[Surface]]:
    """Return the lines in groups that differ in the seed of their random directions alone, in their order.

    A line of anything but random directions is a group of its own, and so is one that another has the seed of.
    """
    groups: list[tuple[str | None, list[Surface]]] = []
    for surface in surfaces:
        key = _key(surface)
        for known, group in groups:
            seeds = [other.attributes["seed"] for other in group] if key is not None and known == key else []
            if seeds and surface.attributes["seed"] not in seeds:
                group.append(surface)
                break
        else:
            groups.append((key, [surface]))
    return [group for _, group in groups]


def stem(group: Sequence[Surface]) -> str:
    """Return the name of a group: that of its first file, without the number of the repeat where there are several."""
    name = group[0].path.stem
    return re.sub(r"\.r\d+$", "", name) if len(group) > 1 else name


def _key(surface: Surface) -> str | None:
    """Return what repeats have in common; None where a line can have none."""
    job = document_of(surface)
    plane = job.get("plane")
    if not isinstance(plane, dict) or plane.get("kind") != "random" or "seed" not in surface.attributes:
        return None
    kept = {name: dict(part) if isinstance(part, dict) else part for name, part in job.items()}
    for *sections, last in _PLACES:
        place = kept.get(sections[0]) if sections else kept
        if isinstance(place, dict):
            place.pop(last, None)
    prints = [surface.attributes.get(name) for name in _FINGERPRINTS]
    return json.dumps([kept, prints, surface.alpha.tolist()], sort_keys=True, default=str)
