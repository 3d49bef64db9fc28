"""Says what a surface holds, how complete it is, which commands fill what it lacks, and how far a run has got.

For scripts that start a run again after it died, this module prints one number that grows with everything that is done:

python -m landscape_mpi.surface.status sweep job.yaml --shard 3/8
"""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape_mpi.errors import UserError, printable
from landscape_mpi.files import untrusted
from landscape_mpi.files.isolated import isolated
from landscape_mpi.job import AXES, FROM_PYTHON, SweepJob, TrainJob, load_job
from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.registry import is_mean
from landscape_mpi.metrics.spectrum import SPECTRUM
from landscape_mpi.surface.barrier import barrier_lines, barriers, is_bent, plane_of
from landscape_mpi.surface.journal import journal_folder, products_folder
from landscape_mpi.surface.platforms import parse_platform, recorded_platform, recorded_versions
from landscape_mpi.surface.read import Surface, has_bars, in_points, read_surface, rise_words, share_used, widest
from landscape_mpi.surface.schema import DONE, LONGEST
from landscape_mpi.surface.shards import Shard, coarse_to_fine, parse_shard, recorded_shard
from landscape_mpi.surface.sharpness import ABOVE, Sharpness, sharpness
from landscape_mpi.surface.spectrum import NODES, ends, has_spectrum, nearest
from landscape_mpi.surface.training import Trajectory

UNSEEDED = ("seed", -1)
"""What a file says where nothing was drawn."""
PROVENANCE = (
    ("created", "created"),
    ("dtype", "dtype"),
    ("precision_error", "precision error"),
    ("precision_floor", "precision floor"),
    ("engine", "engine"),
    ("batch", "batch"),
    ("batchnorm", "batch norm"),
    ("batchnorm_examples", "  from examples"),
    ("batchnorm_images", "  from examples"),  # of schema 1
    ("device", "device"),
    ("seed", "seed"),
    ("cosine", "cosine"),
    ("delta_norm", "||delta||"),
    ("eta_norm", "||eta||"),
    ("align_units", "units that may move"),
    ("align_moved", "  of them moved"),
    ("align_before", "distance, straight"),
    ("align_after", "distance, aligned"),
    ("align_units_via", "units, via"),
    ("align_moved_via", "  of them moved"),
    ("align_before_via", "straight, via"),
    ("align_after_via", "aligned, via"),
    ("bend_alpha", "bend, along"),
    ("bend_beta", "bend, beside"),
    ("curve_steps", "steps of the bend"),
    ("curve_loss", "loss of the last"),
    ("hessian_max_eig", "largest eigenvalue"),
    ("hessian_min_eig", "most negative one"),
    ("hessian_residual", "Lanczos residual"),
    ("hessian_parameters", "Hessian over"),
    ("checkpoint_sha256", "checkpoint"),
    ("train_size", "training examples"),
    ("test_size", "test examples"),
    ("data_sha256", "data"),
    ("plane_sha256", "plane"),
    ("trajectory_sha256", "trajectory"),
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
LAST_DIGITS = "their last digits may differ by that; `info` says how many are whose"
"""What it means that points were computed on different machines, or with different libraries."""


def describe(path: Path) -> str:
    """Return the text that `info` prints.

    Raises:
        UserError: the file is missing or is no surface.
    """
    surface = read_surface(path)
    lines = [str(path), *_grid(surface)]
    lines += _trajectory(surface.trajectory) if surface.trajectory is not None else ()
    lines += _sampling(surface) if surface.sampled else ()
    lines += _spectrum(surface) if has_spectrum(surface) else ()
    lines += ["", *_results(surface), *_sharpness(surface), *_barriers(surface), *_work(surface), ""]
    lines += [_line(label, value) for label, value in provenance(surface.attributes)]
    if surface.job is not None:
        lines += ["", "  job", *(f"  | {line}" for line in surface.job.splitlines())]
    return printable("\n".join(lines) + "\n")


def _grid(surface: Surface) -> Iterator[str]:
    """Yield the grid, how much of it is done, and what to do about the rest."""
    yield _line("kind", f"{surface.kind} of {' x '.join(str(n) for n in surface.shape)} points")
    for name, axis in zip(AXES, surface.axes, strict=False):
        yield _line(name, f"{axis[0]:g} to {axis[-1]:g}, {len(axis)} points{_found(surface.attributes, name)}")
    yield _line("points", state(surface))
    if surface.unsound:
        yield _line("damaged", without_numbers(surface.unsound))
    for command in remedies(surface):
        yield _line("to go on", command)
    kept = products_folder(surface.path)
    if not surface.complete and (points := {file.name.split(".")[0] for file in kept.glob("point-*.products")}):
        unfinished = "1 point" if len(points) == 1 else f"{len(points)} points"
        yield _line("begun", f"{unfinished}, whose products with the Hessian are kept in {kept.name} for the next run")


def _found(attributes: Mapping[str, object], axis: str) -> str:
    """Return by which losses the range of an axis that was `auto` was found; empty for other axes."""
    names = ("range_centre", f"range_{axis}_low", f"range_{axis}_high", "range_examples")
    numbers = [value for name in names if isinstance(value := attributes.get(name), float)]
    if len(numbers) < len(names):
        return ""
    centre, low, high, examples = numbers
    return f" (auto: loss {centre:.4g} at theta*, {low:.4g} and {high:.4g} at the ends, of {examples:,.0f} examples)"


def _trajectory(path: Trajectory) -> Iterator[str]:
    """Yield how long the path of a training run is, and how much of it the plane shows."""
    for run in path.runs if path.epoch.size else ():
        whose = f"{printable(run.names[0])}: " if run.names else ""
        yield _line("trajectory", f"{whose}{run.epoch.size} checkpoints, epochs {run.epoch.min()} to {run.epoch.max()}")
        yield _line("off the plane", f"{np.median(run.residual):.4g} (median), {run.residual.max():.4g} (farthest)")
    if path.explained and path.epoch.size:
        yield _line("variance", ", ".join(f"{share:.2%}" for share in path.explained) + " by component")


def _sampling(surface: Surface) -> Iterator[str]:
    """Yield how wide the bars of a sampled surface are, what sampling saved, and what the audit found."""
    for name in surface.metrics:
        if has_bars(surface, name):
            unit = "points" if in_points(name) else f"%{rise_words(surface, name) or ' of the mean'}"
            yield _line("95 % error bars", f"{name}: at most {widest(surface, name):.3g} {unit}")
    if share := share_used(surface):
        yield _line("examples", f"{share:.2%} of a full sweep's evaluations (1/{1 / share:.3g}), the audit's included")
    if surface.audit:
        yield _line("audit", surface.audit.words)


def _spectrum(surface: Surface) -> Iterator[str]:
    """Yield the probes and steps of the spectrum, and the eigenvalues at the point nearest to theta*."""
    probes, steps = surface.arrays[NODES].shape[-2:]
    yield _line("spectrum", f"{probes} probes of {steps} steps at every point")
    index = nearest(surface)
    if np.isfinite(surface.arrays[NODES][index]).any():
        low, high = ends(surface, index)
        trace, error = (float(surface.metrics[result.name][index]) for result in SPECTRUM.results[:2])
        place = tuple(f"{axis[i]:g}" for axis, i in zip(surface.axes, reversed(index), strict=True))
        spread = "" if math.isnan(error) else f" ± {error:.2g}"
        yield _line(f"  at ({', '.join(place)})", f"nodes from {low:.5g} to {high:.5g}, trace {trace:.5g}{spread}")


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
    """Yield how sharp each loss is around (0, 0), in the terms of docs/sharpness.md; nothing for a bent surface."""
    if is_bent(plane_of(surface), surface):
        return
    losses = [name for name in surface.metrics if is_mean(name, LOSS) and len(surface.axes) < 3]
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


def _barriers(surface: Surface) -> Iterator[str]:
    """Yield lines of the barriers, an empty line before each kind."""
    before = ""
    for label, text in barrier_texts(surface):
        if label != before:
            yield ""
        before = label
        yield _line(label, text)


def barrier_texts(surface: Surface) -> Iterator[tuple[str, str]]:
    """Yield which barrier it is and how far each loss rises, where a surface is of an interpolation or a curve."""
    for label, beta in barrier_lines(surface):
        for name, one in barriers(surface, beta).items():
            if math.isnan(one.height):
                yield label, f"{name}: needs finite losses at every point from alpha 0 to 1"
                continue
            ends = f"above the line from {one.start:.6g} to {one.end:.6g}, at {one.points} points"
            error = "" if math.isnan(one.error) else f" (standard error at most {one.error:.2g}, of the three losses')"
            yield label, f"{name}: {one.height:.4g} at alpha {one.alpha:.3g}{error}, {ends}"


def _number(found: Sharpness, attribute: str) -> str:
    value = getattr(found, attribute)
    if math.isnan(value):
        return "-"
    if attribute.startswith("radius") and value < found.step:
        return f"< {found.step:.4g}"  # the place within the first cell would be a guess
    return "beyond" if math.isinf(value) else f"{value:.6g}"


def _work(surface: Surface) -> Iterator[str]:
    """Yield the seconds per point, the points by rank and by platform, and the notes of points."""
    if not {"seconds", "rank"} <= set(surface.kinds):
        return
    seconds, ranks, notes = isolated([surface.path], _read_work, surface.path)
    timed = seconds[np.isfinite(seconds)]
    if timed.size:
        names, counts = np.unique(ranks[ranks >= 0], return_counts=True)
        shares = [f"{name}: {count}" for name, count in zip(names, counts, strict=True)]
        more = f", ... ({len(shares)} ranks)" if len(shares) > 16 else ""
        yield ""
        yield _line("seconds per point", f"{np.median(timed):.3g} (median), {np.max(timed):.3g} (longest)")
        yield _line("points by rank", ", ".join(shares[:16]) + more)
    for text, count in surface.platforms.items():
        yield _line("points by platform", f"{count}: {text}")
    if notes:
        yield _line("notes", f"of {len(notes)} point{'s' if len(notes) > 1 else ''}, such as: {notes[0]}")


def _read_work(path: Path) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Return seconds and rank of every point, and the notes of the points that have one, point by point."""
    with untrusted.open_file(path) as file:
        found = untrusted.datasets(file)
        errors, notes = found.get("error"), []
        if errors is not None and errors.dtype == np.dtype(f"S{LONGEST}") and errors.size is not None:
            notes = [note.decode(errors="replace") for note in np.ravel(errors[()]) if note]
        return untrusted.numbers(found["seconds"]), untrusted.numbers(found["rank"]), notes


def provenance(attributes: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what is known of where a surface came from: labels and values, as far as its attributes say."""
    for name, label in PROVENANCE:
        value = attributes.get(name)
        if value not in (None, "") and (name, value) != UNSEEDED:
            yield label, f"{value:.6g}" if isinstance(value, float) else str(value)
    if versions := recorded_versions(attributes):
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _line(label: str, text: str) -> str:
    return f"  {label:18} {text}"


def state(surface: Surface) -> str:
    """Return e.g. `312 of 625 done, 2 failed (incomplete: 311 to do)`."""
    shard = recorded_shard(surface.attributes.get("shard"))
    failed = f", {surface.failed} failed" if surface.failed else ""
    if shard:
        todo = lacking(surface, [shard])[0]
        share = f"shard {shard}: {f'{todo} to do' if todo else 'complete'}"
        return f"{surface.done} of {surface.points} done{failed} ({share})"
    left = "error bars still to narrow" if surface.filled else f"{surface.points - surface.done} to do"
    verdict = "complete" if surface.complete else f"incomplete: {left}"
    return f"{surface.done} of {surface.points} done{failed} ({verdict})"


def without_numbers(count: int) -> str:
    """Return the words about points that their file marks as done and that nobody can have computed."""
    points = "1 point is" if count == 1 else f"{count} points are"
    return (
        f"{points} marked as done without the numbers that every computed point has, as after a power cut or in a torn "
        "copy; not counted as done"
    )


def known_platforms(surface: Surface) -> list[dict[str, str]]:
    """Return the platforms that computed the points of a surface, as far as its file says."""
    if not surface.done:
        return []
    return [parse_platform(text) for text in surface.platforms] or [recorded_platform(surface.attributes)]


def lacking(surface: Surface, shards: Sequence[Shard]) -> list[int]:
    """Return how many points of each shard are not done."""
    todo = [surface.status[index] != DONE for index in coarse_to_fine(surface.shape)]
    return [sum(shard.of(todo)) for shard in shards]


def remedies(surface: Surface) -> Iterator[str]:
    """Yield the commands that compute what a surface lacks, with how much that is; nothing where it is complete."""
    name = str(surface.attributes.get("job_name", "job.yaml"))
    command = f"python -m landscape_mpi sweep {shlex.quote(name)}"
    with suppress(ValueError):  # a quote without an end
        settings = shlex.split(str(surface.attributes.get("job_settings", "")))
        command += "".join(f" --set {shlex.quote(setting)}" for setting in settings)
    own, count = recorded_shard(surface.attributes.get("shard")), surface.attributes.get("shards")
    if surface.complete or surface.job is None:
        return
    if name == FROM_PYTHON:
        yield f"{FROM_PYTHON}(..., output={str(surface.path)!r}) with the arguments that it was begun with"
        return
    # no attribute of a file can ask for more shards than there are points
    all_shards = [Shard(i, count) for i in range(min(count, surface.points))] if isinstance(count, int) else []
    shards = [own] if own else all_shards
    if surface.filled or not shards:
        yield command
        return
    for shard, todo in zip(shards, lacking(surface, shards), strict=True):
        if todo:
            yield f"{command} --shard {shard}    # {todo} points"


def progress(arguments: Sequence[str]) -> int:
    """Return a number that grows with every point, slice of examples or epoch that is done.

    Args:
        arguments: of `python -m landscape_mpi`: sweep JOB [--shard I/N] or train JOB..., and --set KEY=VALUE.

    Raises:
        UserError: a job cannot be read.
    """
    # the whole command line is defined above this module
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("jobs", type=Path, nargs="+")
    parser.add_argument("--shard")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args(arguments)
    if given.command == "train":
        jobs = [load_job(path, TrainJob, given.settings) for path in given.jobs]
        folders = [job.resolve(job.values.train.output) for job in jobs]
        return sum(file.name.startswith("epoch-") for folder in folders if folder.is_dir() for file in folder.iterdir())
    shard = parse_shard(given.shard, os.environ) if given.shard else None
    job = load_job(given.jobs[0], SweepJob, given.settings)
    output, repeats = job.resolve(job.values.output.file), getattr(job.values.plane, "repeats", 1)
    names = [output]
    if repeats > 1:
        names = [output.with_name(f"{output.stem}.r{n}{output.suffix}") for n in range(repeats)]
    total = 0
    for surface in (shard.path(name) if shard else name for name in names):
        folder = journal_folder(surface)  # beside a sampled sweep's surface
        total += sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0
        if surface.exists():
            with h5py.File(surface, "r", locking=False) as file:
                total += int((np.asarray(file["status"]) == DONE).sum())
    return total


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{progress(sys.argv[1:])}\n")
    except (UserError, OSError, KeyError) as error:
        sys.exit(f"error: {error}")
