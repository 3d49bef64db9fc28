"""Draws losses and accuracies along lines (the paper's Figure 2): random directions as a band, and worst cases."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from landscape_mpi.metrics.base import ACCURACY
from landscape_mpi.metrics.registry import is_mean
from landscape_mpi.plot import path
from landscape_mpi.plot.field import Field
from landscape_mpi.plot.labels import alpha_label
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import document_of
from landscape_mpi.plot.scale import Scale, number, scale_of
from landscape_mpi.plot.style import BLUE, FAINT, GREY, LEGEND_COLUMNS, ORANGE, PURPLE, RED
from landscape_mpi.surface.read import Surface

_FEW = 30
_ROOM = 0.04
_PLACES = (("output",), ("train",), ("model", "checkpoint"), ("data", "root"))
"""Keys in which lines of one network may differ; checkpoint and data are compared by their fingerprints."""
_OWN = ("grid", "sampling")
"""Sections in which a steepest ascent may differ from random directions beside it."""
_WORST = {BLUE: ORANGE, RED: PURPLE}
"""The colours of a steepest ascent over random directions, by the colour of their axis."""
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


def draw(axes: Axes, metrics: Sequence[Repeats], sides: Sequence[Side], worst: Sequence[Field] = ()) -> list[Line2D]:
    """Draw metrics along a line, and over them those along steepest ascents; a second side gets a twin of the axes.

    Returns:
        The curves, side by side in the order of the metrics.
    """
    first = metrics[0][0]
    axes.set_xlabel(alpha_label(first.origin))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ends = [end for field in (first, *worst) for end in (float(field.alpha.min()), float(field.alpha.max()))]
    axes.set_xlim(_stretched(min(ends), max(ends), 0))
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.5)
    curves = []
    for index, side in enumerate(sides):
        own = axes.twinx() if index else axes
        _dress(own, side)
        every = [*(field for fields in metrics for field in fields), *worst]
        _draw_floor(own, [field for field in every if field.quantity.metric in side.metrics])
        curves += [
            _curve(own, fields[0], side) if len(fields) == 1 else _band(own, fields, side)
            for fields in metrics
            if fields[0].quantity.metric in side.metrics
        ]
        over = replace(side, colour=_WORST[side.colour])
        curves += [_curve(own, field, over) for field in worst if field.quantity.metric in side.metrics]
    quantities = [fields[0].quantity for fields in metrics]
    splits = {each.split: each.words.rpartition(" ")[0] for each in quantities if each.split}
    handles: list[Line2D | Patch] = []
    if len(splits) > 1:
        handles += [Line2D([], [], color=GREY, linestyle=_dash(split), label=name) for split, name in splits.items()]
    if worst:
        handles += _explained(len(metrics[0]), sides)
    marks = path.draw_along(axes, first) if len(metrics[0]) == 1 else []
    if marks:
        path.legend(axes, [*handles, *marks])
    elif handles:
        axes.legend(
            handles=handles,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncol=min(len(handles), LEGEND_COLUMNS),
            frameon=False,
            borderaxespad=0.1,
            handlelength=1.8 if worst else 2.6,
            columnspacing=1.2 if worst else 2.0,
        )
    return curves


def _explained(repeats: int, sides: Sequence[Side]) -> list[Line2D | Patch]:
    """Return the entries of the legend for random directions and steepest ascents in one panel."""
    colour = sides[0].colour if len(sides) == 1 else GREY
    random = f"median of {repeats}" if repeats > 1 else "random"
    found: list[Line2D | Patch] = [Line2D([], [], color=colour, label=random)]
    if repeats > 1:
        found.append(Patch(facecolor=(colour, 0.16), edgecolor="none", label="range"))
    for side in sides:
        which = "" if len(sides) == 1 else ", accuracy" if side.colour == RED else ", loss"
        found.append(Line2D([], [], color=_WORST[side.colour], label=f"worst case{which}"))
    return found


def _side(fields: Sequence[Field], options: Options, colour: str) -> Side:
    metrics = {field.quantity.metric: field.quantity for field in fields}
    first = fields[0].quantity
    label = first.label if len(metrics) == 1 else first.label.removeprefix(first.words.rpartition(" ")[0]).strip()
    return Side(frozenset(metrics), colour, label, scale_of(fields, options))


def _curve(axes: Axes, field: Field, side: Side) -> Line2D:
    """Draw one metric and shade its error bars, if any; the curve bridges points not done yet, but not NaN or inf."""
    alpha, values = field.alpha[field.done], field.values[field.done]
    if (spread := field.bars if field.bars is not None else field.errors) is not None:
        bars = spread[field.done]
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
    """Shade the band of losses around f(0, 0) of each metric within which rounding decides."""
    bands: dict[float, float] = {}
    for field in fields:
        if field.floor is not None and field.centre is not None:
            bands[field.centre] = max(bands.get(field.centre, 0.0), field.floor)
    for centre, floor in bands.items():
        low = max(centre - floor, axes.get_ylim()[0]) if axes.get_yscale() == "log" else centre - floor
        axes.axhspan(low, centre + floor, color=GREY, alpha=0.18, linewidth=0, zorder=0.5, gid="floor")


def _band(axes: Axes, fields: Repeats, side: Side) -> Line2D:
    """Draw one metric along several random directions: its median, its shaded range, and a thin curve for each.

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
    """Return groups of lines, in their order; the lines of a group differ only in the seed of their random directions.

    A line of anything but random directions is a group of its own. Two lines with the same seed are in two groups.
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


def with_worst(groups: Sequence[list[Surface]]) -> list[tuple[list[Surface], list[Surface]]]:
    """Return the groups, each with the steepest ascents drawn over it; such ascents are then no groups of their own.

    They are drawn over random directions of the same network, data and metrics; how far the lines go may differ.
    """
    panels = [(group, list[Surface]()) for group in groups]
    for group in groups:
        if _of_kind(group[0], "worst"):
            random = (pair for pair in panels if _of_kind(pair[0][0], "random"))
            host = next((over for known, over in random if _shared(known[0]) == _shared(group[0])), None)
            if host is not None:
                host += group
                panels = [pair for pair in panels if pair[0] is not group]
    return panels


def _of_kind(surface: Surface, kind: str) -> bool:
    plane = document_of(surface).get("plane")
    return isinstance(plane, dict) and plane.get("kind") == kind


def stem(group: Sequence[Surface]) -> str:
    """Return the name of a group: that of its first file, without the number of the repeat where there are several."""
    name = group[0].path.stem
    return re.sub(r"\.r\d+$", "", name) if len(group) > 1 else name


def _key(surface: Surface) -> str | None:
    """Return what repeats have in common; None where a line can have no repeats."""
    if not _of_kind(surface, "random") or "seed" not in surface.attributes:
        return None
    plane = {key: value for key, value in document_of(surface)["plane"].items() if key not in ("seed", "repeats")}
    grid = [document_of(surface).get(section) for section in _OWN]
    return json.dumps([_shared(surface), plane, grid, surface.alpha.tolist()], sort_keys=True, default=str)


def _shared(surface: Surface) -> str:
    """Return what lines along different kinds of directions have in common if they show one network."""
    job = document_of(surface)
    kept = {name: dict(part) if isinstance(part, dict) else part for name, part in job.items()}
    for *sections, last in (*_PLACES, ("plane",), *((section,) for section in _OWN)):
        place = kept.get(sections[0]) if sections else kept
        if isinstance(place, dict):
            place.pop(last, None)
    prints = [surface.attributes.get(name) for name in _FINGERPRINTS]
    return json.dumps([kept, prints], sort_keys=True, default=str)
