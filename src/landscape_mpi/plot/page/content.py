"""Surfaces and options -> what a page shows, as plain values for JSON; knows nothing of HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape_mpi import __version__
from landscape_mpi.errors import UserError, printable
from landscape_mpi.metrics.names import RELATIVE, parse
from landscape_mpi.metrics.registry import METRICS
from landscape_mpi.plot import labels
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import origin_of
from landscape_mpi.plot.page.packed import numbers
from landscape_mpi.plot.quantity import Quantity, is_shown
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.surface.info import PROVENANCE, has_bars, provenance
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.status import state

MOST_SURFACES = 8
"""Browsers draw no more than 8 to 16 views in three dimensions at once."""
MOST_VALUES = 4_000_000
"""Values of a page, 43 MB of it: more would be too much for many a browser."""

_SCALES = {None: "automatic", True: "logarithmic", False: "linear"}


def content(surfaces: Sequence[Surface], options: Options) -> Mapping[str, Any]:
    """Return everything that a page shows: what can be chosen, what is chosen first, and the surfaces.

    Raises:
        UserError: the surfaces do not suit each other or a page, or the options do not suit them.
    """
    _check_kinds(surfaces)
    first = [field_of(surface, options.metric) for surface in surfaces]
    scale_of(first, options)
    names = _metrics(surfaces)
    _check_size(surfaces)
    titles = _titles(first, options)
    return {
        "program": f"landscape_mpi {__version__}",
        "title": printable(options.title) if options.title else " \N{MIDDLE DOT} ".join(titles),
        "start": _start(first[0].quantity.metric, options),
        "metrics": [_metric(field_of(surfaces[0], name).quantity) for name in names],
        "surfaces": [
            _surface(surface, title, number)
            for number, (surface, title) in enumerate(zip(surfaces, titles, strict=True))
        ],
    }


def _titles(fields: Sequence[Field], options: Options) -> list[str]:
    """Return what stands above each surface: as asked, and as it was typed, else its network or file."""
    return [_readable(title) for title in labels.captioned(labels.panel_titles(fields), options.captions, "surface")]


def _check_kinds(surfaces: Sequence[Surface]) -> None:
    first = surfaces[0]
    if len(surfaces) > MOST_SURFACES:
        raise UserError(f"--html: found {len(surfaces)} surfaces; expected at most {MOST_SURFACES} on a page.")
    for surface in surfaces:
        if surface.is_line != first.is_line:
            raise UserError(f"{surface.path}: lines and planes do not mix on a page; expected one or the other.")
        if min(surface.shape) < 2:
            found = " x ".join(map(str, reversed(surface.shape)))
            raise UserError(f"{surface.path}: {found} points have no extent; expected 2 or more along each axis.")


def _check_size(surfaces: Sequence[Surface]) -> None:
    values = sum(surface.points * len(_drawable(surface)) * (1 if surface.filled else 2) for surface in surfaces)
    if values > MOST_VALUES:
        raise UserError(
            f"--html: the surfaces hold {values} values, too many for a browser; expected at most {MOST_VALUES}: "
            "take fewer of them, or draw figures with -o."
        )


def _metrics(surfaces: Sequence[Surface]) -> list[str]:
    """Return the results that every surface can show, losses and accuracies first."""
    every = [_drawable(surface) for surface in surfaces]
    return sorted((name for name in every[0] if all(name in names for names in every)), key=_rank)


def _drawable(surface: Surface) -> list[str]:
    """Return the results that are finite somewhere, and error bars in percent where there are any."""
    finite = [name for name, values in surface.metrics.items() if np.isfinite(values).any()]
    return [*finite, *(name + RELATIVE for name in finite if has_bars(surface, name))]


def _rank(name: str) -> tuple[int, bool]:
    """Return what brings losses to the front, then accuracies, each of the training split first."""
    shown = [result for metric in METRICS for result in metric.results if result.shown]
    parts = parse(name) if is_shown(name) else None
    return shown.index(parts.result) if parts else len(shown), not name.startswith("train")


def _start(metric: str, options: Options) -> dict[str, str]:
    low, high = ("" if end is None else repr(end) for end in (options.low, options.high))
    return {"metric": metric, "scale": _SCALES[options.log], "low": low, "high": high}


def _metric(quantity: Quantity) -> dict[str, str | None]:
    return {
        "name": quantity.metric,
        "words": printable(quantity.words),
        "general": printable(quantity.general),
        "unit": quantity.unit,
        "split": quantity.split,
        "splitWords": quantity.split_words,
    }


def _surface(surface: Surface, title: str, number: int) -> dict[str, Any]:
    origin = origin_of(surface)
    return {
        "number": number,
        "title": title,
        "facts": _facts(surface),
        "isLine": surface.is_line,
        "alphaLabel": _readable(labels.alpha_label(origin)),
        "betaLabel": _readable(labels.beta_label(origin)),
        **numbers(surface, _drawable(surface)),
        "file": printable(surface.path.name),
        "provenance": _provenance(surface),
        "job": None if surface.job is None else printable(surface.job),
    }


def _facts(surface: Surface) -> list[str]:
    """Return what a caption says of the losses and accuracies, gaps and bars included."""
    names = sorted((name for name in _drawable(surface) if is_shown(name)), key=_rank)
    fields = [field_of(surface, name) for name in names or _drawable(surface)[:1]]
    return [_readable(fact) for fact in [*labels.facts(fields), *_stops(surface)]]


def _stops(surface: Surface) -> list[str]:
    """Return what the marks of the paths of training mean, if there are any."""
    path = surface.trajectory
    if path is None or path.beta is None or not path.epoch.size:
        return []
    runs = path.runs
    first, last = ("start", "end") if len(runs) > 1 else (f"epoch {path.epoch[0]}", f"epoch {path.epoch[-1]}")
    drops = ", diamonds: learning rate drops" if any(run.drops.size for run in runs) else ""
    return [f"square: {first}, circle: {last}{drops}"]


def _provenance(surface: Surface) -> list[tuple[str, str]]:
    """Return labels and values: how complete it is, what is known by a name, and whatever else its attributes say."""
    known = {name for name, _ in PROVENANCE} | {"versions"}
    audit = [("audit", surface.audit.words)] if surface.audit else []
    others = [(name, str(value)) for name, value in sorted(surface.attributes.items()) if name not in known]
    rows = [("points", state(surface)), *audit, *provenance(surface.attributes), *others]
    return [(printable(label), printable(value)) for label, value in rows]


def _readable(text: str) -> str:
    """Return a caption's text without what keeps matplotlib from reading mathematics in it."""
    return printable(text.replace(r"\$", "$"))
