"""Decides whether a surface belongs to the same sweep as a job or as another surface, and has all its datasets.

It compares the keys of the job that fix the numbers, fingerprints of the files they point at, and the losses of the
first examples at theta*. These losses also tell networks apart that are drawn at random. The journals of a sampled
sweep carry a hash of the same.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from landscape_mpi.errors import Flag, Key, Text, UserError
from landscape_mpi.job import AXES, Axis, Grid, JobFile, SweepJob, difference, experiment, read_job
from landscape_mpi.metrics import own
from landscape_mpi.metrics.registry import asked, axes_of, dtype_of, in_schema, result_names
from landscape_mpi.surface.read import Kind, Surface
from landscape_mpi.surface.schema import AUDIT_SIZES, LETTERS, LONGEST, check_schema
from landscape_mpi.surface.shards import Shard, recorded_shard
from landscape_mpi.surface.training import Trajectory

FINGERPRINTS = {
    "checkpoint_sha256": ("model.checkpoint", "another checkpoint"),
    "data_sha256": ("data", "other inputs or targets"),
    "plane_sha256": ("plane", "other directions"),
    "trajectory_sha256": ("plane.trajectory", "other checkpoints, or none"),
    own.RECORD: ("metrics", "a callable that calls its results otherwise"),
}
CENTRE = "centre_losses"
"""The attribute of the root that holds the losses at theta*, as text."""
EXAMPLES = 8
"""The number of examples of each split."""
RELATIVE = {"tf32": 4e-2, "bfloat16": 2e-1, "bfloat16x2": 4e-4}
USUAL = 4e-5
"""Largest relative difference of one network's losses between processors, by `evaluate.dtype`."""
WHY = (
    "where a callable draws random numbers to make the network, each process has a different one: seed them there, or "
    "save what is drawn in the checkpoint"
)


@dataclass(frozen=True)
class Identity:
    """What fixes every number of a surface besides the keys of its job: the fingerprints of what these point at.

    Attributes:
        seed: The seed by which the plane's directions are drawn; -1 where nothing is drawn.
        fingerprints: Of checkpoint, data, plane and trajectory, by the names of the surface's attributes.
        shard: Which share of the points the file is for; None for all.
        trajectory: The path of a training run on the plane.
        facts: Recorded numbers about how the plane was found.
        centre: The losses of the first examples at theta*, as `centre_text` writes them; empty where unknown.
    """

    seed: int
    fingerprints: Mapping[str, str]
    shard: Shard | None = None
    trajectory: Trajectory | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    centre: str = ""

    @property
    def recorded(self) -> Mapping[str, str]:
        """What a surface records for this comparison, by attribute."""
        return {**self.fingerprints, CENTRE: self.centre} if self.centre else self.fingerprints

    def digest(self, job: SweepJob, engine: str, batch: int) -> bytes:
        """Return 32 bytes that the journals of a sampled sweep carry: the same for the same numbers."""
        parts = [experiment(job), self.seed, dict(self.fingerprints), engine, batch]
        text = json.dumps(parts, sort_keys=True, default=str)  # options may hold whatever YAML does, such as dates
        return hashlib.sha256(text.encode()).digest()


def job_of(surface: Surface) -> JobFile[SweepJob]:
    """Return the job that a surface was begun with; a grid that was still to be chosen is the grid that was chosen.

    Raises:
        UserError: it holds no job, or none that this version reads.
    """
    if surface.job is None:
        raise UserError("", f"{surface.path} was not written by landscape_mpi", remedy="name another file")
    job = read_job(surface.job, surface.path, SweepJob)
    grid = job.values.planned_grid
    if grid is not None and not grid.is_open:
        return job
    axes = {name: Axis(float(at[0]), float(at[-1]), len(at)) for name, at in zip(AXES, surface.axes, strict=False)}
    return job.with_grid(Grid(alpha=axes["alpha"], beta=axes.get("beta"), gamma=axes.get("gamma")))


def with_its_grid(job: SweepJob, surface: Surface) -> SweepJob:
    """Return a job with the grid of a surface, where both have the same `auto` axes; else the job as it is.

    Raises as `job_of`.
    """
    grid = job.planned_grid
    if grid is None or not grid.is_open or surface.job is None:
        return job
    asked = read_job(surface.job, surface.path, SweepJob).values.planned_grid
    return structs.replace(job, grid=job_of(surface).values.chosen_grid) if asked == grid else job


def check_same(surface: Surface, job: SweepJob, identity: Identity) -> None:
    """Refuse to go on with a surface of another experiment, or with one that lacks what a sweep writes.

    Where the grid of a job is still to be found, the way in which the job asks for it is compared.

    Raises:
        UserError: it is no surface of ours, or of another experiment; the error names the first key that differs.
    """
    path = surface.path
    if surface.job is None:
        raise UserError("output.file", f"{path} was not written by landscape_mpi", remedy="name another file")
    job = with_its_grid(job, surface)
    reason = first_difference(surface, job, identity.recorded)
    if not reason and (shard := recorded_shard(surface.attributes.get("shard"))) != identity.shard:
        theirs, ours = (f"shard {share}" if share else "all points" for share in (shard, identity.shard))
        reason = Flag("shard"), f": it is for {theirs}, and this run is for {ours}"
    if reason:
        raise UserError(
            "output.file",
            (f"{path} holds another sweep: ", reason),
            remedy=(
                "name another ",
                Key("output.file"),
                ", or start afresh with ",
                Flag("overwrite"),
                ". Nothing was touched",
            ),
        )
    check_whole(surface, job)


def check_same_as(first: Surface, other: Surface) -> None:
    """Refuse to merge surfaces of two experiments.

    Raises:
        UserError: their jobs, what these point at, or their grids differ.
    """
    reason = first_difference(first, job_of(other).values, other.attributes)
    if reason or first.shape != other.shape:
        raise UserError(
            other.path,
            (f"belongs to another sweep than {first.path}: ", reason or "the grid differs"),
            expected="shards of one job",
            remedy="Nothing was touched",
        )


def first_difference(surface: Surface, job: SweepJob, fingerprints: Mapping[str, object]) -> Text | None:
    """Return the first key in which the experiment of a surface differs; None for the same experiment.

    Args:
        surface: The surface whose job and attributes are compared.
        job: The other job.
        fingerprints: The other fingerprints, by attribute, with the other losses at theta* (`CENTRE`).
    """
    if key := difference(job_of(surface).values, job):
        return key
    for name, (key, what) in FINGERPRINTS.items():
        if surface.attributes.get(name) != fingerprints.get(name):
            return Key(key), f": it was made from {what} ({name} differs)"
    reason = other_network(surface.attributes.get(CENTRE), fingerprints.get(CENTRE), job.evaluate.dtype)
    return reason and (reason, f"; {WHY}")


def centre_text(losses: Mapping[str, NDArray[np.float64]]) -> str:
    """Return the losses of the first examples of each split at theta* as JSON, to the last bit."""
    return json.dumps({split: values[:EXAMPLES].tolist() for split, values in losses.items()})


def other_network(theirs: object, ours: object, dtype: str, places: tuple[str, str] = ("there", "here")) -> Text | None:
    """Say how the losses in two texts of `centre_text` differ; None where they do not, or where a text is missing."""
    if not (isinstance(theirs, str) and isinstance(ours, str)) or theirs == ours:
        return None
    try:
        there, here = ({name: np.array(v, np.float64) for name, v in json.loads(t).items()} for t in (theirs, ours))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return Key("model.build"), f": `{CENTRE}` holds no losses"
    if list(there) != list(here):
        return Key("model.build"), f": `{CENTRE}` is of other splits"
    for split, values in there.items():
        if not _near(values, here[split], RELATIVE.get(dtype, USUAL)):
            shown = [
                f"{np.array2string(found[:2], precision=6, separator=', ')} {place}"
                for found, place in zip((values, here[split]), places, strict=True)
            ]
            return Key("model.build"), f": at theta* the first {split} examples have the losses {' and '.join(shown)}"
    return None


def _near(a: NDArray[np.float64], b: NDArray[np.float64], relative: float) -> bool:
    """Return whether losses are of one network on two processors: their mean difference is due to rounding."""
    if a.ndim != 1 or b.ndim != 1 or not (common := min(len(a), len(b))):
        return a.shape == b.shape
    a, b = a[:common], b[:common]  # for large networks fewer examples are evaluated
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return False
    known = np.isfinite(a)
    a, b = a[known], b[known]
    return bool(np.abs(a - b).sum() <= relative * np.abs(a).sum() + 1e-7 * len(a))


def check_whole(surface: Surface, job: SweepJob) -> None:
    """Refuse a surface that a sweep of its own job could not be written into.

    A file that only looks like a surface would otherwise fail at its first write, after hours of work.

    Raises:
        UserError: a dataset is missing, or has another type (also in byte order) or shape than the schema says, the
            schema is another one, or the coordinates are not those of the job, to the bit.
    """
    schema = check_schema(surface.path, surface.attributes.get("schema"))
    metrics = asked(job_of(surface).values.metrics, own.recorded(surface.attributes))
    results = result_names(job.data.splits, metrics, sampled=job.sampling is not None)
    audits = [(np.dtype("f8"), (size,)) for size in AUDIT_SIZES]
    of_points = {"status": "u1", "seconds": "f8", "rank": "i4", "error": f"S{LONGEST}"}
    expected: dict[str, Kind] = {
        **{
            in_schema(name, schema): (
                np.dtype(dtype_of(name)),
                (*surface.shape, *(job.within[axis] for axis in axes_of(name))),
            )
            for name in results
        },
        **{name: (np.dtype(kind), surface.shape) for name, kind in of_points.items()},
        **{name: (np.dtype(kind), ()) for name, kind in (("complete", "u1"), ("finished", "f8"), ("rounds", "i8"))},
        "audit": next((kind for kind in audits if kind == surface.kinds.get("audit")), audits[-1]),
    }
    for name, kind in expected.items():
        found = surface.kinds.get(name)
        if found != kind:
            raise UserError(
                surface.path,
                f"`{name}` is {_words(found)}",
                expected=f"{_words(kind)}, as in every surface that a sweep has begun",
                remedy="the file is damaged or not one of ours",
            )
    for letter, axis, there in zip_longest(LETTERS, job.chosen_grid.axes, surface.axes):
        _check_coordinates(surface.path, f"{letter}coordinates", there, axis)


def _check_coordinates(path: Path, name: str, found: NDArray[np.float64] | None, axis: Axis | None) -> None:
    there = np.empty(0) if found is None else found
    expected = np.empty(0) if axis is None else axis.coordinates()
    if there.tobytes() == expected.tobytes():
        return
    if there.size != expected.size:
        words = f"found {there.size} of them, expected {expected.size}"
    else:
        place = int(np.flatnonzero(there != expected)[0])
        words = f"found {there[place]:.17g} at place {place}, expected {expected[place]:.17g}"
    raise UserError(
        path,
        f"`{name}` are not those of its job: {words}",
        remedy="the file is damaged, and its points may lie elsewhere than it says",
    )


def _words(kind: Kind | None) -> str:
    return "missing" if kind is None else f"{kind[0].str} {list(kind[1] or ())}"
