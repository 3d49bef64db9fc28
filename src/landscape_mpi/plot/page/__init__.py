"""Turns surfaces and options into a web page: HTML with its data, its scripts and plotly inside.

`content` collects the data as plain values, arrays as base64 of their bytes; `html` writes the page. The page loads
nothing and sends nothing: its policy allows only the scripts written here, by their hashes. What comes
from files is one block of JSON, which the scripts put on the page as text.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, to_hex
from numpy.typing import ArrayLike, NDArray

from landscape_mpi import __version__
from landscape_mpi.errors import Flag, UserError, printable
from landscape_mpi.metrics.registry import METRICS, RELATIVE, in_schema, parse
from landscape_mpi.plot import density, labels
from landscape_mpi.plot.field import Field, field_of, is_shown, linear
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.path import marked
from landscape_mpi.plot.scale import scale_of
from landscape_mpi.surface.read import Surface, has_bars
from landscape_mpi.surface.schema import SCHEMA
from landscape_mpi.surface.spectrum import has_spectrum
from landscape_mpi.surface.status import PROVENANCE, barrier_texts, provenance, state

MOST_SURFACES = 8
"""Browsers draw no more than 8 to 16 views in three dimensions at once."""
MOST_VALUES = 4_000_000
"""The most values of a page, 43 MB of it: more values would be too much for many browsers."""

_SCALES = {None: "automatic", True: "logarithmic", False: "linear"}
_SYMBOLS = {"o": "circle", "s": "square", "D": "diamond"}


def content(surfaces: Sequence[Surface], options: Options) -> Mapping[str, Any]:
    """Return everything that a page shows: what can be chosen, what is chosen first, and the surfaces.

    Raises:
        UserError: the surfaces do not suit each other or a page, or the options do not suit them.
    """
    if len(surfaces) > MOST_SURFACES:
        raise UserError(Flag("html"), f"found {len(surfaces)} surfaces", expected=f"at most {MOST_SURFACES} on a page")
    for surface in surfaces:
        if surface.kind != surfaces[0].kind:
            raise UserError(
                surface.path,
                f"{'s and '.join(sorted((surfaces[0].kind, surface.kind)))}s do not mix on a page",
                expected="one or the other",
            )
    of_points = all(surface.points == 1 and surface.kind != "volume" and has_spectrum(surface) for surface in surfaces)
    for surface in surfaces:
        if min(surface.shape) < 2 and not of_points:
            found = " x ".join(map(str, reversed(surface.shape)))
            more = "2 or more along each axis, or of every surface one point with its spectrum"
            raise UserError(surface.path, f"{found} points have no extent", expected=more)
    first = [field_of(surface, options.metric) for surface in surfaces]
    spectra = _spectra(surfaces, options) if of_points else [None] * len(surfaces)
    if of_points:
        options = replace(options, log=None, low=None, high=None)  # these are for the densities
    scale_of(first, options)
    every = [_drawable(surface) for surface in surfaces]
    pairs = zip(surfaces, every, strict=True)
    values = sum(surface.points * len(names) * (1 if surface.filled else 2) for surface, names in pairs)
    if values > MOST_VALUES:
        raise UserError(
            Flag("html"),
            f"the surfaces hold {values} values, too many for a browser",
            expected=f"at most {MOST_VALUES}",
            remedy="take fewer of them, or draw figures with -o",
        )
    metrics = sorted((name for name in every[0] if all(name in names for names in every)), key=_rank)
    captions = labels.captioned(labels.panel_titles(first), options.captions, "surface")
    titles = [_readable(title) for title in captions]
    low, high = ("" if end is None else repr(end) for end in (options.low, options.high))
    return {
        "program": f"landscape_mpi {__version__}",
        "title": printable(options.title) if options.title else " \N{MIDDLE DOT} ".join(titles),
        "start": {"metric": first[0].quantity.metric, "scale": _SCALES[options.log], "low": low, "high": high},
        "metrics": [
            {
                "name": quantity.metric,
                "words": printable(quantity.words),
                "general": printable(quantity.general),
                "unit": quantity.unit,
                "split": quantity.split,
                "splitWords": quantity.split_words,
            }
            for quantity in (field_of(surfaces[0], name).quantity for name in metrics)
        ],
        "surfaces": [
            {"number": number, "title": title, "density": spectrum, **_surface(surface)}
            for number, (surface, title, spectrum) in enumerate(zip(surfaces, titles, spectra, strict=True))
        ],
    }


def _spectra(surfaces: Sequence[Surface], options: Options) -> list[dict[str, Any] | None]:
    """Return the density of the eigenvalues at the one point of each surface, its scale, and its facts.

    Raises:
        UserError: a point is not done, or its spectrum is not finite.
    """
    found = density.densities_at(surfaces, density.bandwidth_of(surfaces, options))
    scale = density.scale_of(found, surfaces, options)
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    spectra: list[dict[str, Any] | None] = []
    for surface, one in zip(surfaces, found, strict=True):
        columns = {"eigenvalues": one.eigenvalues, "density": one.density, "stderr": one.stderr}
        spectra.append(
            {
                "columns": {name: packed(values) for name, values in columns.items()},
                "scale": {"low": low, "high": high, "log": isinstance(scale, LogNorm)},
                "facts": [_readable(fact) for fact in density.facts_at(surface, one)],
                "label": density.EIGENVALUE_LABEL,
                "valueLabel": density.DENSITY_LABEL,
            }
        )
    return spectra


def _drawable(surface: Surface) -> list[str]:
    """Return the results that are finite somewhere, and error bars in percent where there are any."""
    finite = [name for name, values in surface.metrics.items() if np.isfinite(values).any()]
    barred = [name + RELATIVE for name in finite if has_bars(surface, name)]
    return [*(in_schema(name, SCHEMA) for name in finite), *barred]


def _rank(name: str) -> tuple[int, bool]:
    """Return the key that sorts losses first, then accuracies, each of the training split first."""
    shown = [result for metric in METRICS for result in metric.results if result.shown]
    parts = parse(name) if is_shown(name) else None
    return shown.index(parts.result) if parts else len(shown), not name.startswith("train")


def _surface(surface: Surface) -> dict[str, Any]:
    """Return coordinates, status (a byte per point), results, training runs and texts of a surface.

    `filled` has the results once more, with interpolated values at the points that are not done yet. It is None where
    every point is done, or where too few points are done. `floors` has, for each metric, the two values between
    which rounding decides. `layers` has the training runs on each plane of a volume; None elsewhere.
    """
    layers, stops = None, _stops(surface)
    if surface.kind == "volume":  # how far the path is off depends on the plane that is shown
        planes = [surface.at(gamma) for gamma in surface.axes[2]]
        surface, middle = replace(surface, trajectory=None), int(np.abs(surface.axes[2]).argmin())
        stops = _stops(planes[middle])
    fields = [field_of(surface, name) for name in _drawable(surface)]
    runs = _runs(fields[0])
    if surface.kind == "volume":
        layers = [_runs(replace(fields[0], surface=plane)) for plane in planes]
        runs = layers[middle]
    origin, filled = fields[0].origin, None
    stops = [*stops, *(f"{label} of {text}" for label, text in barrier_texts(surface))]
    with suppress(UserError):  # of too few points to span an area
        filled = None if surface.filled else {f.quantity.metric: packed(_filled(f)) for f in fields}
    ranked = sorted(fields, key=lambda field: _rank(field.quantity.metric))
    shown = [field for field in ranked if is_shown(field.quantity.metric)]
    return {
        "facts": [_readable(fact) for fact in [*labels.facts(shown or fields[:1]), *stops]],
        "isLine": surface.is_line,
        "isAtZero": not surface.gamma,
        "alphaLabel": _readable(labels.alpha_label(origin)),
        "betaLabel": _readable(labels.beta_label(origin)),
        "alpha": packed(surface.alpha),
        "beta": None if surface.beta is None else packed(surface.beta),
        "gamma": packed(surface.axes[2]) if surface.kind == "volume" else None,
        "status": base64.b64encode(np.ascontiguousarray(surface.status, np.uint8).tobytes()).decode(),
        # what the file holds, inf included, or what was calculated from it
        "values": {
            (name := field.quantity.metric): packed(surface.metrics.get(name, field.values)) for field in fields
        },
        "filled": filled,
        "floors": {field.quantity.metric: band for field in fields if (band := _floor(field))},
        "runs": runs,
        "layers": layers,
        "file": printable(surface.path.name),
        "provenance": _provenance(surface),
        "job": None if surface.job is None else printable(surface.job),
    }


def _floor(field: Field) -> list[float] | None:
    """Return the ends of the precision floor about f(0, 0); None where it is not known or cannot be seen."""
    if field.floor is None or field.centre is None:
        return None
    return [field.centre - field.floor, field.centre + field.floor]


def _filled(field: Field) -> NDArray[np.float64]:
    """Return the values, with interpolated values at points not done yet, for each plane of a volume by itself.

    A plane with too few points to span an area stays as it is.

    Raises:
        UserError: the surface is such a plane.
    """
    if field.surface.kind != "volume":
        return linear(field)
    values = field.values.copy()
    for place, gamma in enumerate(field.surface.axes[2]):
        plane = replace(field, surface=field.surface.at(gamma), values=values[place], done=field.done[place], bars=None)
        with suppress(UserError):
            values[place] = linear(plane)
    return values


def packed(values: ArrayLike) -> str:
    """Return numbers as base64 of little-endian float64, row by row."""
    return base64.b64encode(np.ascontiguousarray(values, "<f8").tobytes()).decode()


def _runs(field: Field) -> list[dict[str, Any]]:
    """Return the training runs on a plane: columns, name (where there are several), colour, and marks."""
    path = field.surface.trajectory
    if path is None or path.beta is None or not path.epoch.size:
        return []
    found = []
    for run, colour, marks in marked(field, path):
        columns = {"alpha": run.alpha, "beta": np.asarray(run.beta), "residual": run.residual, "epoch": run.epoch}
        stops = [
            {
                "at": int(where),
                "symbol": _SYMBOLS[mark.marker],
                "radius": mark.radius,
                "face": to_hex(mark.face),
                "below": mark.below,
            }
            for mark in marks
            if mark.name
            for where in mark.where
        ]
        found.append(
            {
                "name": printable(run.names[0]) if run.names else "",
                "colour": to_hex(colour),
                "columns": {name: packed(values) for name, values in {**columns, "loss": run.train_loss}.items()},
                "stops": stops,
            }
        )
    return found


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
    """Return labels and values: how complete the surface is, its known attributes, and all its other attributes."""
    known = {name for name, _ in PROVENANCE} | {"versions"}
    audit = [("audit", surface.audit.words)] if surface.audit else []
    others = [(name, str(value)) for name, value in sorted(surface.attributes.items()) if name not in known]
    rows = [("points", state(surface)), *audit, *provenance(surface.attributes), *others]
    return [(printable(label), printable(value)) for label, value in rows]


def _readable(text: str) -> str:
    """Return a caption's text without the backslashes that keep matplotlib from reading mathematics in it."""
    return printable(text.replace(r"\$", "$"))


PAGE_ENDINGS = (".html", ".htm")
_SCRIPTS = ("surfaces.js", "scale.js", "figures.js", "curves.js", "density.js", "page.js", "watch.js", "build.js")
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
_ASKS = "; connect-src 'self'"
"""The addition to the policy of a page that is served: the page asks whether there is a newer one."""
NO_PLOTLY = (
    "the package plotly is not installed",
    "",
    "install it with: pip install 'plotly>=5'",
)
"""What is wrong, and the remedy, of a `UserError`."""


def html(content: Mapping[str, Any]) -> str:
    """Return the page: one text, the same for the same content and version of plotly.

    Content with `watch` (its tag and how often to look) makes a page that asks its server for a newer page.

    Raises:
        UserError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UserError(Flag("html"), *NO_PLOTLY) from None
    plotly, script = _closed(str(get_plotlyjs())), _closed("".join(map(_part, _SCRIPTS)))
    return Template(_part("page.html")).substitute(
        policy=_POLICY.format(scripts=f"{_hash(plotly)} {_hash(script)}") + (_ASKS if "watch" in content else ""),
        style=_part("page.css"),
        # ASCII without any `<`: nothing in it can end its element or begin another
        data=json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
        plotly=plotly,
        script=script,
    )


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _closed(script: str) -> str:
    """Return a script that cannot end its element early, with the line ends that browsers read."""
    return script.replace("\r\n", "\n").replace("\r", "\n").replace("</script", r"<\/script").replace("<!--", r"<\!--")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
