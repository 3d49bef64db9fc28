"""Finds mistakes in a job that its types cannot express, such as a reversed axis or keys that exclude each other."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from msgspec import Struct

from landscape_mpi.errors import Key, UserError
from landscape_mpi.files.paths import mistake
from landscape_mpi.job.plane import (
    AXES,
    Axis,
    CurvePlane,
    FilePlane,
    Grid,
    HessianPlane,
    InterpolatedPlane,
    PcaPlane,
    Plane,
    RandomPlane,
    WorstPlane,
)
from landscape_mpi.job.schema import SPLIT, Data, Evaluate, SweepJob, Train, TrainJob
from landscape_mpi.metrics.registry import asked
from landscape_mpi.metrics.registry import mistake as mistake_in_metric

MOST_POINTS = 1 << 24
"""Points of a surface, 4096 x 4096: no reader takes a larger one."""
LARGEST = 1 << 62
"""The largest whole number outside of options; torch has no larger ones than 2^63 - 1."""

PATHS = (
    "model.checkpoint",
    "data.root",
    "plane.path",
    "plane.to",
    "plane.via",
    "plane.trajectory",
    "output.file",
    "train.output",
)
OF_OTHERS = frozenset(
    (
        *(".npz", ".npy", ".csv", ".tsv", ".txt", ".nc", ".safetensors", ".pt", ".pth", ".ckpt", ".t7", ".th", ".bin"),
        *(".pkl", ".pickle", ".json", ".yaml", ".yml", ".toml", ".py", ".zip", ".tar", ".gz", ".lock", ".log"),
        *(".png", ".pdf", ".svg", ".jpg", ".gif", ".mp4", ".html", ".vts", ".vtp"),
    )
)
"""Endings that our own commands, or other programs, take for another format than HDF5."""


def mistakes(job: SweepJob | TrainJob) -> Iterator[UserError]:
    """Yield each mistake that the types let through."""
    yield from _data(job.data, job.loss)
    yield from _metrics(job)
    if job.planned_grid is None:
        yield from _without_ranges(job)
    if (grid := job.planned_grid) is not None:
        yield from _grid(grid)
        if isinstance(job.plane, InterpolatedPlane | CurvePlane):
            yield from _ends(job.plane, grid)
        if isinstance(job.plane, InterpolatedPlane | CurvePlane | HessianPlane) and grid.gamma is not None:
            yield UserError(
                "grid.gamma",
                "found a third axis, and planes of this kind have two directions",
                expected="plane.kind random, pca or file, or no gamma",
            )
    if job.output is not None and job.output.directions is False and not isinstance(job.plane, RandomPlane | None):
        yield UserError(
            "output.directions",
            "found false, and only directions of plane.kind random can be drawn again from their seed",
            expected="auto or true",
        )
    yield from _steps(job.plane)
    if job.evaluate.batchnorm != "keep":
        yield from _batchnorm(job.evaluate, job.plane)
    if job.train is not None:
        yield from _train(job.train)
    yield from _beyond(job, "")
    yield from _places(job)


def _places(job: SweepJob | TrainJob) -> Iterator[UserError]:
    """Find paths that cannot exist, and outputs whose names have the ending of another format or are patterns."""
    for key in PATHS:
        section, _, name = key.partition(".")
        value = getattr(getattr(job, section), name, None)
        for path in value if isinstance(value, tuple) else [value]:
            if isinstance(path, str) and (wrong := mistake(path)):
                yield UserError(key, f"found {path[:60]!r}, with {wrong} in it", expected="a path")
    if job.output is None:
        return
    output = Path(job.output.file)
    if output.suffix.lower() in OF_OTHERS:
        yield UserError(
            "output.file",
            f"found {output.name!r}, and a file of the ending {output.suffix} is read as something else than a surface",
            expected="a name such as surface.h5",
        )
    if "*" in output.name or "?" in output.name:
        yield UserError("output.file", f"found {output.name!r}, a pattern", expected="the name of one file")


def _beyond(value: object, key: str) -> Iterator[UserError]:
    """Find numbers that no computation takes: NaN, inf and whole numbers of more than 62 bits; options may be any."""
    if isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _beyond(getattr(value, name), f"{key}.{name}" if key else name)
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _beyond(part, f"{key}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield UserError(key, f"found {value:g}", expected="a finite number")
    elif isinstance(value, int) and abs(value) > LARGEST:
        yield UserError(key, f"found a whole number of {len(str(abs(value)))} digits", expected="at most 2^62")


def _metrics(job: SweepJob | TrainJob) -> Iterator[UserError]:
    for place, key in enumerate(job.metrics):
        if expected := mistake_in_metric(key):
            yield UserError(f"metrics[{place}]", f"found {key!r}", expected=expected)
    if len(set(job.metrics)) < len(job.metrics) or "loss" not in job.metrics:
        yield UserError("metrics", f"found {list(job.metrics)}", expected="`loss`, and each metric once")
    if job.sampling is not None and job.sampling.of == "loss" and job.sampling.floor is not None:
        yield UserError(
            "sampling.floor",
            f"found {job.sampling.floor} beside of: loss, whose bars are relative to the loss and need no floor",
            remedy=("leave it out, or write ", Key("sampling.of"), ": rise"),
        )
    curved = [metric.key for metric in asked(job.metrics) if metric.needs == "gradients"]
    if job.sampling is not None and curved:
        yield UserError(
            "metrics",
            (
                f"found {curved[0]} beside `sampling`, which is for means: its error bars are those of means, and an "
                "eigenvalue is no mean"
            ),
            remedy="leave out one of the two",
        )


def _text(data: Data, loss: str) -> Iterator[UserError]:
    """Find what does not go with tokens: one root for several splits, losses and normalisations of images."""
    if data.root is None:
        yield UserError(
            "data.root", "the key is missing", remedy='text needs a file, or a pattern such as "texts/*.txt"'
        )
    elif len(data.splits) > 1 and SPLIT not in data.root:
        yield UserError(
            "data.splits",
            f"found {list(data.splits)}, and data.root {data.root!r} names one text",
            expected=f"splits: [{data.splits[0]}], or {SPLIT} in data.root, which stands for the name of each split",
        )
    if data.normalize is not None:
        yield UserError("data.normalize", "found it beside text, whose inputs are tokens", remedy="leave it out")
    if loss in ("cross_entropy", "mse"):
        yield UserError("loss", f"found {loss}, and text has a token at every place", expected="next_token")


def _data(data: Data, loss: str) -> Iterator[UserError]:
    if len(set(data.splits)) < len(data.splits):
        yield UserError("data.splits", f"found {list(data.splits)}", expected="each split once")
    if data.normalize and len(data.normalize.mean) != len(data.normalize.std):
        yield UserError(
            "data.normalize",
            f"found {len(data.normalize.mean)} means and {len(data.normalize.std)} standard deviations",
            expected="one of each for every channel",
        )
    if data.build == "text":
        yield from _text(data, loss)
    if data.build == "cifar10" and data.root is None:
        yield UserError("data.root", "the key is missing", remedy="cifar10 needs the folder that holds its batches")


def _without_ranges(job: SweepJob | TrainJob) -> Iterator[UserError]:
    """Yield the mistake of a job whose grid has no alpha, where no path can choose it."""
    of_path = isinstance(job.plane, PcaPlane)
    if isinstance(job.grid, Grid) and not (of_path and job.grid == Grid(points=job.grid.points)):
        remedy = "it is required, but where the path of `plane.kind: pca` chooses the grid and `points` stands alone"
        yield UserError("grid.alpha", "the key is missing", remedy=remedy)
    elif job.grid is None and isinstance(job, SweepJob) and not of_path:
        yield UserError(
            "grid", "the key is missing", remedy="it is required, as only the path of `plane.kind: pca` can choose one"
        )


def _grid(grid: Grid) -> Iterator[UserError]:
    if grid.gamma is not None and grid.beta is None:
        yield UserError("grid.beta", "the key is missing", remedy="a volume needs it beside alpha and gamma")
    if grid.points is not None and not grid.is_open:
        yield UserError(
            "grid.points",
            f"found {grid.points}, and no axis is auto",
            remedy="leave it out: each axis says how many points it has",
        )
    grid = grid.reaching(*(1.0 for _ in AXES))  # any range, where one is to be found
    for name, axis in zip(AXES, grid.axes, strict=False):
        yield from _axis(f"grid.{name}", axis)
    if math.prod(grid.shape) > MOST_POINTS:
        shape = " x ".join(map(str, reversed(grid.shape)))
        yield UserError(
            "grid", f"found {shape} points", expected=f"at most {MOST_POINTS:,} in all, which is what surfaces may hold"
        )
        return
    for name, axis in zip(AXES, grid.axes, strict=False):
        key = f"grid.{name}"
        if axis.points > 1 and not axis.first < axis.last:
            continue
        with np.errstate(all="ignore"):  # points that float64 cannot tell apart
            steps = np.diff(axis.coordinates())
        if not (np.isfinite(steps).all() and (steps > 0).all()):
            yield UserError(
                key,
                (
                    f"found {axis.points} points from {axis.first!r} to {axis.last!r}, of which some coincide or lie "
                    "beyond float64"
                ),
                expected="a wider range, or fewer points",
            )


def _ends(plane: InterpolatedPlane | CurvePlane, grid: Grid) -> Iterator[UserError]:
    kind = plane.__struct_config__.tag
    for name, axis in zip(AXES, grid.ranges, strict=False):
        if axis == "auto":
            yield UserError(
                f"grid.{name}",
                f"found auto, and the networks of plane.kind {kind} lie at 0 and 1",
                expected="[first, last, number of points], such as [-0.5, 1.5, 51]",
            )
    if isinstance(plane, CurvePlane):
        if plane.coordinates == "curve" and grid.beta is None:
            yield UserError(
                "plane.coordinates",
                "found curve, and without grid.beta alpha goes along the curve in any case",
                remedy="leave it out, or add grid.beta: 0 is the straight line, 1 the curve",
            )
        return
    if plane.via is None and grid.beta is not None:
        yield UserError(
            "plane.via",
            "the key is missing",
            remedy="grid.beta leads to a third checkpoint: name it, or leave grid.beta out for the line to plane.to",
        )
    if plane.via is not None and grid.beta is None:
        yield UserError(
            "grid.beta",
            "the key is missing",
            remedy="plane.via needs points along it: add grid.beta, or leave plane.via out",
        )


def _steps(plane: Plane | None) -> Iterator[UserError]:
    if not isinstance(plane, WorstPlane):
        return
    if plane.steps > 1 and plane.radius is None:
        yield UserError(
            "plane.radius",
            f"the key is missing, and {plane.steps} steps are taken",
            remedy="name the alpha at which the loss is to be maximised, such as the end of the grid",
        )
    if plane.steps == 1 and plane.radius is not None:
        yield UserError(
            "plane.radius",
            f"found {plane.radius:g} beside one step, whose gradient is that at theta*",
            remedy=("leave it out, or set ", Key("plane.steps"), " to more than 1"),
        )


def _batchnorm(evaluate: Evaluate, plane: Plane | None) -> Iterator[UserError]:
    """Find what does not go with running statistics that change from point to point."""
    policy, engine = evaluate.batchnorm, evaluate.engine
    if engine not in ("auto", "eager"):
        yield UserError(
            "evaluate.engine",
            (
                f"found {engine}, whose weights hold the running statistics, and ",
                Key("evaluate.batchnorm"),
                f" {policy}, by which they change from point to point",
            ),
            expected="auto or eager",
        )
    if policy == "move" and not isinstance(plane, InterpolatedPlane | FilePlane | None):
        yield UserError(
            "evaluate.batchnorm",
            f"found move, and plane.kind {plane.__struct_config__.tag} has no directions for running statistics",
            expected="keep or recompute",
        )
    if policy == "move" and isinstance(plane, InterpolatedPlane) and not plane.whole:
        yield UserError(
            "evaluate.batchnorm",
            "found move, which takes the running statistics all the way to plane.to",
            expected="plane.normalize and plane.ignore to be none, and no plane.only",
        )


def _axis(key: str, axis: Axis) -> Iterator[UserError]:
    first, last, points = axis.first, axis.last, axis.points
    if points < 1:
        yield UserError(f"{key}[2]", f"found {points} points", expected="at least 1")
    elif not (math.isfinite(first) and math.isfinite(last)):
        yield UserError(key, f"found the range {first:g} to {last:g}", expected="finite numbers")
    elif points == 1 and first != last:
        yield UserError(
            key, f"found one point from {first:g} to {last:g}", remedy="a one-point axis needs first == last"
        )
    elif points > 1 and first > last:
        yield UserError(
            key, f"found the reversed range {first:g} to {last:g}", remedy=f"write [{last:g}, {first:g}, {points}]"
        )
    elif points > 1 and first == last:
        yield UserError(key, f"found {points} points from {first:g} to {last:g}", expected="first < last, or 1 point")


def _train(train: Train) -> Iterator[UserError]:
    if train.nesterov and train.optimizer == "sgd" and train.momentum == 0:
        found = "found true with momentum 0; Nesterov needs momentum > 0, or `nesterov: false`"
        yield UserError("train.nesterov", found)
    if list(train.drops) != sorted(set(train.drops)):
        yield UserError("train.drops", f"found {list(train.drops)}", expected="increasing epochs")
