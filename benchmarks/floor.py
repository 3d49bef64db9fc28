"""What a precision can resolve of a language model: errors of f(alpha) - f(0) along random lines, against float64.

    python benchmarks/floor.py --smollm2 FOLDER [--seeds 0 1 2] [--windows 2] [--length 256] [--keep]

TF32 is emulated: both factors of each product of matrices are rounded to 10 bits after the point. `floor` is what a
sweep of the first line to alpha = 1 records as `precision_floor`. `--keep` writes what was found into
benchmarks/results/ and the table into docs/language.md.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from report import HERE, keep, machine, machine_name, with_measured
from torch import Tensor

from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.evaluate.words import Products
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.metrics.examples import mean_and_error
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.floor import in_float64, precision_floor
from landscape_mpi.sweeping.load import Experiment, JobSource, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane
from landscape_mpi.sweeping.precision import PRECISIONS

PAGE = HERE.parent / "docs" / "language.md"
BEGIN, END = "<!-- measured precision: begin -->", "<!-- measured precision: end -->"
ALPHAS = (1e-3, 1e-2, 1e-1, 1.0)
Found = dict[str, Any]


def tf32(x: Tensor, _words: int = 1) -> tuple[Tensor]:
    """Return float32 numbers rounded to 10 bits after the point, to even in the middle.

    >>> tf32(torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-10)]))[0].sub(1).mul(2**10).tolist()
    [0.0, 2.0, -2049.0]
    """
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + (bits >> 13 & 1) & ~0x1FFF).view(torch.float32),)


WAYS: Mapping[str, tuple[str, Callable[[], AbstractContextManager[Any]]]] = {
    "float32": ("float32", nullcontext),
    "tf32, emulated": ("float32", lambda: Products(tf32)),
    "bfloat16": ("bfloat16", nullcontext),
    "bfloat16x2": ("bfloat16x2", nullcontext),
}
"""The `evaluate.dtype` of each row, and within what it is evaluated."""


def load(folder: Path, options: argparse.Namespace, seed: int) -> tuple[Experiment, Plane]:
    """Return the model of a folder and some windows of CPython's help, and a line along a random direction."""
    (folder / "help.txt").write_text("\n\n".join(topics.values()), encoding="utf-8")
    model = str(options.smollm2.absolute())
    job = {
        "model": {"build": "huggingface", "checkpoint": model},
        "data": {
            "build": "text",
            "root": "help.txt",
            "options": {"tokenizer": model, "length": options.length},
            "splits": ["train"],
            "limit": options.windows,
        },
        "loss": "next_token",
        "metrics": ["loss"],
        "plane": {"kind": "random", "seed": seed},
        "grid": {"alpha": [-1, 1, 3]},
        "output": {"file": f"line{seed}.h5"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
    loaded = load_job(folder / "job.yaml", SweepJob)
    experiment = load_experiment(loaded, JobSource(loaded), "cpu", Solo())
    _, plane, _ = build_plane(Solo(), experiment, 0, None)
    return experiment, plane


def in_dtype(experiment: Experiment, dtype: str) -> Experiment:
    """Return the experiment in another precision whose weights are float32 as well."""
    precision = PRECISIONS[dtype]
    return replace(experiment, task=replace(experiment.task, autocast=precision.autocast, words=precision.words))


def rises(evaluator: Callable[[], EagerEvaluator], within: Callable[[], Any], windows: int) -> list[float]:
    """Return f(alpha) - f(0) at each alpha; the evaluator is new, as others move the same network."""
    one = evaluator()

    def loss(alpha: float) -> float:
        with within():
            return mean_and_error(one.per_example((alpha,), "train", slice(0, windows)).losses)[0]

    centre = loss(0.0)
    return [loss(alpha) - centre for alpha in ALPHAS]


def measure(folder: Path, options: argparse.Namespace, seed: int) -> Found:
    """Return the rises along a line in float64 and in each other way, and floors along the first one."""
    experiment, plane = load(folder, options, seed)
    found: Found = {"seed": seed}
    began = time.process_time()
    found["float64"] = rises(lambda: in_float64(experiment, plane, 1, False), nullcontext, options.windows)
    show(seed, "float64", found["float64"], time.process_time() - began)
    for name, (dtype, within) in WAYS.items():
        task = in_dtype(experiment, dtype).task

        def evaluator(task: Any = task) -> EagerEvaluator:
            return EagerEvaluator(experiment.theta.network, plane, task, 1)

        began = time.process_time()
        found[name] = rises(evaluator, within, options.windows)
        show(seed, name, found[name], time.process_time() - began)
        if seed == options.seeds[0]:
            began = time.process_time()
            with within():
                floor = precision_floor(Solo(), in_dtype(experiment, dtype), plane, evaluator())
            found[f"{name} floor"] = floor
            sys.stdout.write(f"  floor {floor:.2e} ({time.process_time() - began:.0f} CPU s)\n")
    return found


def show(seed: int, name: str, values: Sequence[float], seconds: float) -> None:
    """Print the rises along a line in one precision, and the time that they took."""
    texts = " ".join(f"{value:.8e}" for value in values)
    sys.stdout.write(f"seed {seed} {name:15} {texts} ({seconds:.0f} CPU s)\n")
    sys.stdout.flush()


def table(found: Sequence[Found]) -> Iterator[str]:
    """Yield a table of Markdown: a row a precision, the largest relative error of the rise along all lines."""
    yield f"| | {' | '.join(f'alpha = {alpha:g}' for alpha in ALPHAS)} | floor, nats |"
    yield f"|{'---|' * (len(ALPHAS) + 2)}"
    true = [[abs(line["float64"][i]) for line in found] for i in range(len(ALPHAS))]
    ranges = (f"{min(each):.2g} to {max(each):.2g}" for each in true)
    yield f"| f(alpha) - f(0) in float64, nats | {' | '.join(ranges)} | |"
    for name in WAYS:
        errors = (max(abs(line[name][i] / line["float64"][i] - 1) for line in found) for i in range(len(ALPHAS)))
        yield f"| {name} | {' | '.join(f'{error:.1e}' for error in errors)} | {found[0][f'{name} floor']:.1e} |"


def written(page: str, found: Sequence[Found]) -> str:
    """Return the page with its measured part replaced. Raises as `report.with_measured`."""
    about = machine()
    head = f"{about['cpu']}, torch {about['torch']}, {about['date']}:"
    return with_measured(page, f"{head}\n\n" + "\n".join(table(found)) + "\n", (BEGIN, END))


def main() -> int:
    """Measure, print the table, and keep it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", type=Path, default=Path("SmolLM2-135M-Instruct"), metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--length", type=int, default=256, help="tokens of a window")
    parser.add_argument("--keep", action="store_true", help="write results and table")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = [measure(Path(folder), options, seed) for seed in options.seeds]
    sys.stdout.write("\n".join(table(found)) + "\n")
    if options.keep:
        keep(HERE / "results" / f"{machine_name()}.json", {"floor": found})
        PAGE.write_text(written(PAGE.read_text(), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
