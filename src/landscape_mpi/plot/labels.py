"""Writes titles, axis labels and captions."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.mathtext import MathTextParser

from landscape_mpi.errors import Flag, UserError
from landscape_mpi.plot.field import CURVATURE, Field
from landscape_mpi.plot.origin import Origin, plain
from landscape_mpi.plot.path import outside, reach
from landscape_mpi.plot.scale import Scale, number
from landscape_mpi.surface.read import Surface, in_points, rise_words
from landscape_mpi.surface.training import Trajectory

_A = "\N{GREEK SMALL LETTER ALPHA}"

_NORMALISED = {
    "filter": "filter-normalised",
    "layer": "layer-normalised",
    "weight": "weight-normalised",
    "none": "not normalised",
}
GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
_KINDS = {
    "random": "random directions",
    "interpolate": "interpolation",
    "curve": "curve between two networks",
    "pca": "principal components of the trajectory",
    "hessian": "Hessian eigenvectors",
    "worst": "steepest ascent of the loss",
    "file": "directions from a file",
    "given": "directions given",
}
_CURVES = {"bezier": "Bézier curve", "polygon": "two straight lines"}
_BATCHNORM = {"move": "running statistics moved along", "recompute": "running statistics estimated at every point"}
_ALPHA = {"pca": "1st PCA component", "hessian": "largest eigenvalue", "worst": "steepest ascent"}
_BETA = {"pca": "2nd PCA component", "hessian": "most negative"}


def alpha_label(origin: Origin) -> str:
    """Return the label of the alpha axis."""
    if origin.kind in ("interpolate", "curve") and origin.to:
        return f"{_A}{' along the curve' if origin.bent else ''} (0: θ*, 1: {origin.to})"
    return f"{_A} ({_ALPHA.get(origin.kind or '', 'δ direction')}{_explained(origin, 0)})"


def beta_label(origin: Origin) -> str:
    """Return the label of the beta axis."""
    if origin.kind == "interpolate" and origin.via:
        return f"β (1: {origin.via})"
    if origin.kind == "curve":
        return "β (0: straight line, 1: curve)" if origin.bent else "β (towards the bend)"
    return f"β ({_BETA.get(origin.kind or '', 'η direction')}{_explained(origin, 1)})"


def _explained(origin: Origin, axis: int) -> str:
    """Return how much of a trajectory's variance lies along a component, where that is known."""
    return f": {100 * origin.explained[axis]:.1f} %" if axis < len(origin.explained) else ""


def panel_titles(fields: Sequence[Field], stems: Sequence[str] = ()) -> list[str]:
    """Return one title per panel: the network, and the file where that alone does not tell panels apart.

    `stems`: what to call the files, if not by their names without ending.
    """
    stems = [plain(stem) for stem in stems or [field.surface.path.stem for field in fields]]
    names = [field.origin.network for field in fields]
    return [
        stem if name is None else f"{name} ({stem})" if names.count(name) > 1 else name
        for name, stem in zip(names, stems, strict=True)
    ]


def checked(title: str, flag: str = "title") -> str:
    """Return the user's title, which may hold mathematics between dollar signs; `flag` is where it was given.

    Raises:
        UserError: the mathematics is not readable.
    """
    try:
        MathTextParser("path").parse(title)
    except ValueError as error:
        raise UserError(
            Flag(flag), f"found {title!r}, whose mathematics is not readable", remedy="write \\$ for a $"
        ) from error
    return title


def captioned(titles: Sequence[str], captions: Sequence[str], what: str) -> list[str]:
    """Return the titles of panels, frames or surfaces (`what`), or the user's captions in their place, if any.

    Raises:
        UserError: there is not one caption for each, or mathematics in one is not readable.
    """
    if captions and len(captions) != len(titles):
        count = f"{len(titles)} {what}{'s' if len(titles) > 1 else ''}"
        raise UserError(Flag("caption"), f"found {len(captions)} for {count}", expected=f"one per {what}, in order")
    return [checked(caption, "caption") for caption in captions] or list(titles)


def facts(fields: Sequence[Field]) -> list[str]:
    """Return the facts of the caption for one panel, which shows some metrics of one surface."""
    first = fields[0]
    path = first.surface.trajectory
    runs = [_path(first, run) for run in path.runs] if path else []
    return _facts([along_words(first.origin), *runs], _progress([first.surface]), fields)


def line_facts(metrics: Sequence[Sequence[Field]], worst: Sequence[Sequence[Field]] = ()) -> list[str]:
    """Return the facts of the caption for a panel with a line: some metrics of one surface or of its repeats.

    `worst`: the same metrics of each steepest ascent that is drawn over them.
    """
    if worst:
        own = line_facts(metrics)
        return list(dict.fromkeys([*own, *(fact for fields in worst for fact in facts(fields))]))
    first = metrics[0]
    if len(first) == 1:
        return facts([fields[0] for fields in metrics])
    seeds = sorted(field.origin.seed for field in first if field.origin.seed is not None)
    apart = ", ".join(map(str, seeds))
    named = f"{seeds[0]} to {seeds[-1]}" if seeds == list(range(seeds[0], seeds[-1] + 1)) else apart
    together = replace(first[0].origin, seed=None)
    directions = f"median and range of {len(first)} {along_words(together)}, seeds {named}"
    return _facts([directions], _progress([field.surface for field in first]), [_pooled(fields) for fields in metrics])


def _facts(directions: Sequence[str | None], progress: str | None, fields: Sequence[Field]) -> list[str]:
    origin = fields[0].origin
    curved = dict.fromkeys(origin.hessian.get(CURVATURE.get(field.quantity.metric, "")) for field in fields)
    gamma = fields[0].surface.gamma
    plane = None if gamma is None else f"plane at {GAMMA} = {number(gamma)}"
    every = [plane, *directions, origin.reach, _BATCHNORM.get(origin.batchnorm or ""), origin.data, *curved, progress]
    said = [fact for fact in [*every, *_bars(fields), *_errors(fields), *_floor(fields)] if fact]
    for field in fields:  # results that cannot be drawn because they are not finite
        counts = [("inf", field.infinite), ("NaN", field.undefined)]
        gaps = [f"{name} at {_points(count)}" for name, count in counts if count]
        said += [f"{field.quantity.words} {', '.join(gaps)}"] if gaps else []
    return said


def _pooled(fields: Sequence[Field]) -> Field:
    """Return the first of some repeats with the widest error bar, the highest floor, and the counts of inf and NaN."""
    widest = [field.widest for field in fields if math.isfinite(field.widest)]
    return replace(
        fields[0],
        surface=max((field.surface for field in fields), key=lambda surface: surface.precision_floor or 0.0),
        widest=max(widest, default=math.nan),
        infinite=sum(field.infinite for field in fields),
        undefined=sum(field.undefined for field in fields),
    )


def shared(panels: Sequence[Sequence[str]]) -> list[str]:
    """Return the facts that hold for every panel."""
    return [fact for fact in panels[0] if all(fact in panel for panel in panels)]


def scale_facts(fields: Sequence[Field], scale: Scale) -> list[str]:
    """Return the fact of the caption on zeros, which a log scale cannot show."""
    if scale.floor is None:
        return []
    zeros = sum(int((field.finite <= 0).sum()) for field in fields)
    return [f"{_points(zeros)} of value 0 drawn at {number(scale.floor)}"]


def cut_facts(scale: Scale) -> list[str]:
    """Return where heights are cut off; a colour bar shows this by its arrows, an axis cannot."""
    ends = {"min": f"below {number(scale.low)}", "max": f"above {number(scale.high)}"}
    cut = [words for end, words in ends.items() if scale.extend in (end, "both")]
    return [f"cut off {' and '.join(cut)}"] if cut else []


def along_words(origin: Origin) -> str | None:
    """Return along which directions, or from where to where, a surface goes; None where this is not known."""
    if origin.kind is None:
        return None
    words = [_KINDS.get(origin.kind, origin.kind)]
    if origin.start and origin.to:
        ends = f"{origin.to} and {origin.via}" if origin.via else origin.to
        way = "interpolation" if origin.curve is None else f"{_CURVES.get(origin.curve, 'curve')} of one bend"
        words = [f"{way} from {origin.start} to {ends}"]
    if origin.normalise and not (origin.kind != "random" and origin.normalise == "none"):
        words.append(_NORMALISED.get(origin.normalise, f"normalised: {origin.normalise}"))
    if origin.seed is not None:
        words.append(f"seed {origin.seed}")
    return ", ".join(words)


def _path(field: Field, path: Trajectory) -> str:
    """Return how far a training run comes from theta*, within plane or line and off it, as distances of parameters."""
    on, what = ("on", "line") if path.beta is None else ("in", "plane")
    whose = f"{plain(path.names[0])}: " if path.names else ""
    parts = [f"{whose}path of {path.epoch.size} checkpoints"]
    if not math.isnan(farthest := path.residual.max()):  # NaN in a path of another tool
        off, within = f"{farthest:.3g} off", reach(field, path)
        parts[0] += (
            f": up to {off} the {what}" if within is None else f": up to {within:.3g} from θ* {on} the {what}, {off} it"
        )
    if count := outside(field, path):
        parts.append(f"{count} beyond the picture")
    return ", ".join(parts)


def _progress(surfaces: Sequence[Surface]) -> str | None:
    if all(surface.complete for surface in surfaces):
        return None
    if all(surface.filled for surface in surfaces):
        return "error bars still to narrow"
    done, failed = sum(surface.done for surface in surfaces), sum(surface.failed for surface in surfaces)
    points = sum(surface.points for surface in surfaces)
    return f"{done} of {_points(points)}{f', {failed} failed' if failed else ''}"


def _bars(fields: Sequence[Field]) -> list[str]:
    """Return how wide the error bars are at most: relative to the values for losses, in points for accuracies."""
    facts = []
    for field in fields:
        if field.bars is not None and math.isfinite(field.widest):
            of = f" of the {field.quantity.words}" if len(fields) > 1 else ""
            metric = field.quantity.metric
            unit = "points" if in_points(metric) else f"%{rise_words(field.surface, metric)}"
            # two digits, rounded up, so that the written bound holds
            step = 10.0 ** (math.floor(math.log10(field.widest)) - 1) if field.widest else 1.0
            most = math.ceil(field.widest / step - 1e-9) * step
            facts.append(f"95 % error bars{of} ≤ {most:.6g} {unit}")
    return facts


def _errors(fields: Sequence[Field]) -> list[str]:
    """Return how large the standard errors of estimates of the whole network are at most."""
    facts = []
    for field in fields:
        if field.errors is not None and np.isfinite(field.errors).any():
            most = number(float(f"{np.nanmax(field.errors):.2g}"))
            shaded = ", shaded" if field.surface.is_line else ""
            facts.append(f"standard error ≤ {most}{shaded}")
    return facts


def _floor(fields: Sequence[Field]) -> list[str]:
    """Return the rise below which rounding decides the picture, where that can be seen."""
    floor = max((field.floor for field in fields if field.floor is not None), default=None)
    dtype = plain(str(fields[0].surface.attributes.get("dtype")))
    if floor is None:
        return []
    return [f"rounding in {dtype} decides where |f - f(0, 0)| < {number(float(f'{floor:.2g}'))}"]


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"
