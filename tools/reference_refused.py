"""Mistakes in a job and the sentences that answer them, as a table in Markdown: the answers are the program's own."""

from pathlib import Path

from landscape_mpi.errors import UserError
from landscape_mpi.job import SweepJob, read_job

SOUND = {
    "model": "{build: resnet20, checkpoint: net.pt}",
    "data": "{build: shapes10}",
    "plane": "{kind: random}",
    "grid": "{alpha: [-1, 1, 25], beta: [-1, 1, 25]}",
    "output": "{file: surface.h5}",
}
LINE = "grid: {alpha: [0, 1, 25]}"
ELSEWHERE = "plane: {kind: interpolate, to: other.pt, normalize: filter}"
MISTAKES = (
    "loos: mse",
    "plane: {kind: random, sed: 1}",
    "plane: {kind: randm}",
    "plane: {kind: file, path: surface.h5, normalize: filter}",
    "data: {build: shapes10, limit: 0}",
    "data: {build: shapes10, splits: [train, train]}",
    "data: {build: cifar10}",
    "data: {build: text, splits: [train]}",
    "data: {build: text, root: novel.txt}",
    "data: {build: text, root: novel.txt, splits: [train], normalize: {mean: [0.5], std: [0.2]}}",
    "data: {build: text, root: novel.txt, splits: [train]}",
    "data: {build: shapes10, normalize: {mean: [0.4, 0.4, 0.4], std: [0.2]}}",
    "grid: {alpha: [-1, 1]}",
    "grid: {alpha: [-1, 1, 0]}",
    "grid: {alpha: [-1, .inf, 25]}",
    "grid: {alpha: [1, -1, 25]}",
    "grid: {alpha: [-1, 1, 1]}",
    "grid: {alpha: [1, 1, 25]}",
    "grid: {alpha: [1, 1.000000000000001, 25]}",
    "grid: {alpha: [-1, 1, 5000], beta: [-1, 1, 5000]}",
    "grid: null",
    "grid: {alpha: all}",
    "grid: {points: 9}",
    "grid: {alpha: [-1, 1, 25], points: 9}",
    "plane: {kind: interpolate, to: other.pt}\ngrid: {alpha: auto}",
    "output: {file: surface.npz}",
    'output: {file: "surface-*.h5"}',
    f"output: {{file: surface.h5, directions: false}}\n{ELSEWHERE}\n{LINE}",
    'data: {build: cifar10, root: "~nobody-here/data"}',
    "data: {build: shapes10, normalize: {mean: [.nan], std: [1.0]}}",
    "data: {build: shapes10, limit: 99999999999999999999}",
    "model: {build: resnet20, checkpoint: net.pt, entry: 3}",
    "metrics: [loss, acuracy]",
    "metrics: [accuracy]",
    "sampling: {error: 0.02}\nmetrics: [loss, hessian]",
    "sampling: {error: 0.02}\nmetrics: [loss, spectrum]",
    "sampling: {error: 2}",
    "sampling: {error: 0.05, floor: 0.01}",
    "hessian: {tolerance: 1e-3}",
    "plane: {kind: interpolate, to: other.pt}",
    f"plane: {{kind: interpolate, to: other.pt, via: third.pt}}\n{LINE}",
    "plane: {kind: curve, to: other.pt, steps: 0}",
    f"plane: {{kind: curve, to: other.pt, coordinates: curve}}\n{LINE}",
    "plane: {kind: hessian}\ngrid: {alpha: [-1, 1, 5], beta: [-1, 1, 5], gamma: [-1, 1, 5]}",
    "plane: {kind: worst, steps: 5}",
    "plane: {kind: worst, radius: 0.1}",
    "grid: {alpha: [-1, 1, 5], gamma: [-1, 1, 5]}",
    "evaluate: {batchnorm: move}",
    f"evaluate: {{batchnorm: move}}\n{ELSEWHERE}\n{LINE}",
    "evaluate: {batchnorm: recompute, engine: fused}",
    "train: {output: nets, momentum: 0}",
    "train: {output: nets, drops: [20, 10]}",
)


def table() -> str:
    """Return a row for each mistake: what is written into an otherwise sound job, and what is answered."""
    rows = [f"| {_shown(mistake)} | {answer(mistake)} |" for mistake in MISTAKES]
    return "\n".join(["| in an otherwise sound job | the answer |", "|---|---|", *rows])


def answer(mistake: str) -> str:
    """Return the sentence that a sound job with these lines instead of its own is answered with.

    Raises:
        ValueError: nothing is wrong with it.
    """
    keys = {line.partition(":")[0] for line in mistake.splitlines()}
    kept = [f"{key}: {value}" for key, value in SOUND.items() if key not in keys]
    text = "\n".join(kept) + "\n" + mistake.replace("grid: null", "")
    try:
        read_job(text, Path("job.yaml"), SweepJob)
    except UserError as error:
        return str(error).removeprefix("job.yaml: ").replace("|", r"\|").replace("<", r"\<")
    message = f"this job is sound: {mistake}"
    raise ValueError(message)


def _shown(mistake: str) -> str:
    return "no `grid`" if mistake == "grid: null" else "<br>".join(f"`{line}`" for line in mistake.splitlines())
