"""Compares two jobs: finds the first key that makes them different experiments."""

from collections.abc import Iterator
from typing import Any

import msgspec

from landscape_mpi.errors import Key, Text
from landscape_mpi.job.plane import HessianPlane
from landscape_mpi.job.schema import SweepJob, TrainJob
from landscape_mpi.metrics.hessian import HESSIAN
from landscape_mpi.metrics.registry import METRICS

PLACES = {
    *("output", "train", "model.checkpoint", "data.root", "data.options.tokenizer"),
    *("plane.path", "plane.to", "plane.via", "plane.trajectory", "plane.repeats", "evaluate.weights"),
}
"""Keys that change no number: where things lie (what lies there is compared by its fingerprint), how many planes there
are, and how weights are held."""
OPTIONS = ("model.options", "data.options", "loss_options")
"""Mappings that are empty where they are left out."""
UNTRAINED = {"train.output", "train.epochs", "model.entry"}
"""Keys that no step of a training depends on."""


def difference(old: SweepJob, new: SweepJob) -> Text | None:
    """Return the first key in which two jobs differ, with both values; None for the same experiment."""
    before, after = experiment(old), experiment(new)
    key = _first(before, after)
    if key is None:
        return None
    finer = _finer(old, new) if key.startswith("grid.") else ""
    return Key(key), f": the file has {before.get(key)} and the job says {after.get(key)}{finer}"


def training_difference(old: TrainJob, new: TrainJob) -> Text | None:
    """Return the first key in which two jobs train differently, with both values; None for the same training.

    More or fewer epochs are no difference: no epoch depends on how many follow.
    """
    before, after = _training(old), _training(new)
    key = _first(before, after)
    if key is None:
        return None
    return Key(key), f": it was begun with {before.get(key)} and the job says {after.get(key)}"


def experiment(job: SweepJob) -> dict[str, Any]:
    """Return the dotted keys that make two jobs the same experiment, with their values."""
    sections = msgspec.to_builtins(job)
    if job.curved:
        _forget_unused(sections["hessian"], job)
    else:
        del sections["hessian"]
    grid = sections["grid"] = msgspec.to_builtins(job.planned_grid) or {}
    # journals of sampled sweeps are known by this: a key that they were begun without is left out where nobody sets it
    plane = sections["plane"]
    for section, key in ((sections["data"], "order"), (grid, "gamma"), (grid, "points"), (plane, "align")):
        if section.get(key) is None:
            section.pop(key, None)
    if job.sampling is not None:
        sections["sampling"]["floor"] = job.sampling.narrowest
        for key in ("of", "floor") if job.sampling.of == "loss" else ():
            del sections["sampling"][key]
    return dict(_flat(sections))


def _forget_unused(section: dict[str, Any], job: SweepJob) -> None:
    """Remove the keys of the Hessian that no result of a job depends on."""
    asking = {HESSIAN.key} if isinstance(job.plane, HessianPlane) else set()
    asking |= set(job.curvature)
    used = {key for metric in METRICS if metric.key in asking for key in metric.keys}
    for key in {key for metric in METRICS for key in metric.keys} - used:
        del section[key]
    if section["of"] == "all":
        del section["of"]


def _training(job: TrainJob) -> dict[str, Any]:
    train = dict(_flat(msgspec.to_builtins(job.train), "train."))
    sections = {name: msgspec.to_builtins(getattr(job, name)) for name in ("model", "data", "loss", "loss_options")}
    return {key: value for key, value in (dict(_flat(sections)) | train).items() if key not in UNTRAINED}


def _first(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    return next((key for key in dict.fromkeys([*before, *after]) if not _same(before.get(key), after.get(key))), None)


def _same(one: object, other: object) -> bool:
    """Whether two values are the same: NaN equals NaN, and neither true nor 1.0 equals 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (one != one and other != other)  # NaN alone differs from itself


def _flat(section: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        key = prefix + str(name)
        if key in PLACES:
            continue
        if isinstance(value, dict) and (value or key in OPTIONS):
            yield from _flat(value, f"{key}.")
        else:
            yield key, _named(value)


def _named(value: Any) -> Any:
    """Return a value with the keys of every mapping in it as text, so that they can be sorted."""
    if isinstance(value, dict):
        return {str(name): _named(part) for name, part in value.items()}
    return [_named(part) for part in value] if isinstance(value, list | tuple) else value


def _finer(old: SweepJob, new: SweepJob) -> str:
    """Say so where the new grid covers the same ranges with other numbers of points."""
    if any(job.planned_grid is None or job.planned_grid.is_open for job in (old, new)):
        return ""
    before, after = old.chosen_grid, new.chosen_grid
    axes = list(zip(before.axes, after.axes, strict=False))
    if len(before.axes) != len(after.axes) or any((a.first, a.last) != (b.first, b.last) for a, b in axes):
        return ""
    return f" (a {'finer' if all(b.points >= a.points for a, b in axes) else 'coarser'} grid over the same plane)"
