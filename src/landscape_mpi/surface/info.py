"""A surface file in words: contents, completeness, sharpness, provenance and the job; computes no result of its own."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import printable
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.metrics.loss import LOSS
from landscape_mpi.metrics.names import is_mean
from landscape_mpi.surface import bars
from landscape_mpi.surface.read import Surface, read_surface
from landscape_mpi.surface.schema import DONE, LONGEST
from landscape_mpi.surface.sharpness import ABOVE, Sharpness, sharpness
from landscape_mpi.surface.status import remedies, state, without_numbers

UNSEEDED = ("seed", -1)
"""What a file says where nothing was drawn."""
PROVENANCE = (
    ("created", "created"),
    ("dtype", "dtype"),
    ("precision_error", "precision error"),
    ("engine", "engine"),
    ("batch", "batch"),
    ("batchnorm", "batch norm"),
    ("batchnorm_images", "  from images"),
    ("device", "device"),
    ("seed", "seed"),
    ("cosine", "cosine"),
    ("delta_norm", "||delta||"),
    ("eta_norm", "||eta||"),
    ("hessian_max_eig", "largest eigenvalue"),
    ("hessian_min_eig", "most negative one"),
    ("hessian_residual", "their residual"),
    ("checkpoint_sha256", "checkpoint"),
    ("train_size", "training images"),
    ("test_size", "test images"),
    ("data_sha256", "data"),
    ("plane_sha256", "plane"),
    ("trajectory_sha256", "checkpoints of it"),
    ("git", "git"),
)
SHARPNESS = (
    ("centre", "f(0, 0)"),
    ("curvature_alpha", "curvature, alpha"),
    ("curvature_beta", "curvature, beta"),
    ("radius_doubled", "radius, 2 f(0, 0)"),
    ("radius_above", f"radius, f + {ABOVE:g}"),
    ("area_above", f"area, f + {ABOVE:g}"),
    ("asymmetry", "asymmetry"),
    ("roughness", "roughness"),
)


def describe(path: Path) -> str:
    """Return the text that `info` prints.

    Raises:
        UserError: the file is missing or is no surface.
    """
    surface = read_surface(path)
    lines = [
        str(path),
        *_grid(surface),
        *_trajectory(surface),
        *_sampling(surface),
        "",
        *_results(surface),
        *_sharpness(surface),
        *_work(surface),
        *_provenance(surface),
    ]
    return printable("\n".join(lines) + "\n" + _job(surface))


def _grid(surface: Surface) -> Iterator[str]:
    kind = "line" if surface.beta is None else "plane"
    yield _line("kind", f"{kind} of {' x '.join(str(n) for n in surface.shape)} points")
    yield _line("alpha", f"{surface.alpha[0]:g} to {surface.alpha[-1]:g}, {len(surface.alpha)} points")
    if surface.beta is not None:
        yield _line("beta", f"{surface.beta[0]:g} to {surface.beta[-1]:g}, {len(surface.beta)} points")
    yield _line("points", state(surface))
    if surface.unsound:
        yield _line("damaged", without_numbers(surface.unsound))
    for command in remedies(surface):
        yield _line("to go on", command)


def _trajectory(surface: Surface) -> Iterator[str]:
    """Say of the path of a training run how long it is and how much of it the plane shows."""
    path = surface.trajectory
    if path is None or not path.epoch.size:
        return
    for run in path.runs:
        whose = f"{printable(run.names[0])}: " if run.names else ""
        yield _line("trajectory", f"{whose}{run.epoch.size} checkpoints, epochs {run.epoch.min()} to {run.epoch.max()}")
        yield _line("off the plane", f"{np.median(run.residual):.4g} (median), {run.residual.max():.4g} (farthest)")
    if path.explained:
        yield _line("variance", ", ".join(f"{share:.2%}" for share in path.explained) + " by component")


def _sampling(surface: Surface) -> Iterator[str]:
    """Say of a sampled surface how wide its bars are, what they saved, and what the audit found."""
    if not surface.sampled:
        return
    for name in surface.metrics:
        if bars.has_bars(surface, name):
            unit = "points" if bars.in_points(name) else "% of it"
            yield _line("95 % error bars", f"{name}: at most {bars.widest(surface, name):.3g} {unit}")
    if share := bars.share_used(surface):
        yield _line("images", f"{share:.2%} of a full sweep's evaluations (1/{1 / share:.3g}), the audit's included")
    if surface.audit:
        yield _line("audit", surface.audit.words)


def _results(surface: Surface) -> Iterator[str]:
    yield f"  {'result':18} {'minimum':>12} {'median':>12} {'maximum':>12}   not finite"
    for name, values in surface.metrics.items():
        done = values[surface.status == 1]
        finite = done[np.isfinite(done)]
        numbers = (
            [f"{number(finite):12.6g}" for number in (np.min, np.median, np.max)]
            if finite.size
            else ["           -"] * 3
        )
        yield f"  {name:18} {' '.join(numbers)}   {done.size - finite.size}"


def _sharpness(surface: Surface) -> Iterator[str]:
    """Say how sharp each loss is around (0, 0), in the terms of docs/sharpness.md."""
    losses = [name for name in surface.metrics if is_mean(name, LOSS)]
    done = surface.status == DONE
    found = [sharpness(surface.metrics[name], surface.alpha, surface.beta, done) for name in losses]
    if not found:
        return
    yield ""
    yield _line("sharpness of", " ".join(f"{name:>12}" for name in losses))
    for attribute, label in SHARPNESS:
        if not all(math.isnan(getattr(one, attribute)) for one in found):
            yield _line(label, " ".join(f"{_number(one, attribute):>12}" for one in found))
    if not surface.filled:
        yield _line("", "the other numbers need every point")
    elif all(math.isnan(one.centre) for one in found):
        yield _line("", "the other numbers need a finite f(0, 0) on the grid")


def _number(found: Sharpness, attribute: str) -> str:
    value = getattr(found, attribute)
    if math.isnan(value):
        return "-"
    if attribute.startswith("radius") and value < found.step:
        return f"< {found.step:.4g}"  # where within the first cell is a guess
    return "beyond" if math.isinf(value) else f"{value:.6g}"


def _work(surface: Surface) -> Iterator[str]:
    """Say how long the points took, how many each rank computed, and what was noted of some."""
    if not {"seconds", "rank"} <= set(surface.kinds):
        return
    seconds, ranks, notes = isolated([surface.path], _read_work, surface.path)
    timed = seconds[np.isfinite(seconds)]
    if timed.size:
        yield ""
        yield _line("seconds a point", f"{np.median(timed):.3g} (median), {np.max(timed):.3g} (longest)")
        yield _line("points by rank", _shares(ranks))
    for text, count in surface.makers.items():
        yield _line("points by maker", f"{count}: {text}")
    if notes:
        yield _line("notes", f"of {len(notes)} point{'s' if len(notes) > 1 else ''}, such as: {notes[0]}")


def _read_work(path: Path) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        notes = _notes(found["error"]) if "error" in found else []
        return untrusted.numbers(found["seconds"]), untrusted.numbers(found["rank"]), notes


def _notes(errors: h5py.Dataset) -> list[str]:
    """Return what was noted of points, point by point; nothing of a dataset that is not ours."""
    if errors.dtype != np.dtype(f"S{LONGEST}") or errors.size is None:
        return []
    return [note.decode(errors="replace") for note in np.ravel(errors[()]) if note]


def _shares(ranks: NDArray[Any]) -> str:
    names, counts = np.unique(ranks[ranks >= 0], return_counts=True)
    shares = [f"{name}: {count}" for name, count in zip(names, counts, strict=True)]
    return ", ".join(shares[:16]) + (f", ... ({len(shares)} ranks)" if len(shares) > 16 else "")


def provenance(attributes: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what is known of where a surface came from: labels and values, as far as its attributes say."""
    for name, label in PROVENANCE:
        if attributes.get(name) not in (None, "") and (name, attributes[name]) != UNSEEDED:
            value = attributes[name]
            yield label, f"{value:.6g}" if isinstance(value, float) else str(value)
    versions = _versions(attributes.get("versions"))
    if versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _provenance(surface: Surface) -> Iterator[str]:
    yield ""
    yield from (_line(label, value) for label, value in provenance(surface.attributes))


def _versions(text: object) -> dict[str, str]:
    try:
        versions = json.loads(str(text))
    except (ValueError, RecursionError):
        return {}
    return versions if isinstance(versions, dict) else {}


def _job(surface: Surface) -> str:
    if surface.job is None:
        return ""
    body = "".join(f"  | {line}\n" for line in surface.job.splitlines())
    return f"\n  job\n{body}"


def _line(label: str, text: str) -> str:
    return f"  {label:18} {text}"
