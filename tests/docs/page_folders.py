"""The folder in which the commands of a page run: small jobs, networks and surfaces under the names that it uses."""

import copy
import re
import shutil

import h5py
import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from plot.made_surfaces import bowls, write
from support import tiny
from support.jobs import tiny_job, write_job
from support.launch import launch

TRAIN = {"output": "training", "epochs": 4, "batch": 20, "lr": 0.05, "drops": [], "augment": False}
GRID = {"alpha": [-1, 1, 5], "beta": [-1, 1, 5]}
SMALL_GRID = 5
SMALL_EPOCHS = 5
SMALL_TEXT = 60


def make_ready(folder):
    """Train one tiny network; sweep planes (one of curvature), a line with repeats and a path: what pages are given."""
    folder.mkdir()
    tiny_job(folder, "job.yaml", grid=GRID, train=TRAIN, output__file="plane.h5")
    section = {"images": 8, "tolerance": 0.1, "probes": 3, "steps": 3}
    curved = {"metrics": ["loss", "hessian", "spectrum"], "hessian": section}
    tiny_job(folder, "curved.yaml", grid={"alpha": [-1, 1, 3], "beta": [-1, 1, 3]}, output__file="curved.h5", **curved)
    line = {"alpha": [-1, 1, 5]}
    tiny_job(folder, "line.yaml", grid=line, plane__repeats=2, output__file="line.h5")
    pca = {"kind": "pca", "trajectory": "training/epoch-*.safetensors"}
    tiny_job(folder, "path.yaml", grid=GRID, plane=pca, output__file="path.h5")
    shutil.copy(folder / "net.pt", folder / "theta.pt")
    for line in ("train job.yaml", "sweep job.yaml", "sweep curved.yaml", "sweep line.yaml", "sweep path.yaml"):
        run = launch(*line.split(), "--quiet", cwd=folder)
        assert run.returncode == 0, run.stdout + run.stderr


def small(job):
    """Return a job with few points and epochs and, where it asks for CIFAR-10, with tiny data and a tiny network."""
    job = _with_few_repeats_and_windows(copy.deepcopy(job))
    if "model" not in job:
        return job  # a part of one
    here = job.get("data", {}).get("build") != "cifar10"
    if not here:
        job["model"] = {"build": "tiny:network", "checkpoint": job["model"]["checkpoint"]}
        kept = {key: value for key, value in job["data"].items() if key == "splits"}
        job["data"] = {"build": "tiny:data", "options": {"images": 1000 if "sampling" in job else 40}, **kept}
    most, grid = 3 if here else SMALL_GRID, job.get("grid", {})
    for axis in grid.values():
        if isinstance(axis, list):
            axis[2] = min(axis[2], most)
    if "points" in grid:
        grid["points"] = min(grid["points"], most)
    if "train" in job:
        epochs = 1 if here else SMALL_EPOCHS
        job["train"] |= {"epochs": epochs, "augment": False, "drops": []}
        job["model"]["checkpoint"] = re.sub(r"epoch-\d+", f"epoch-{epochs:04d}", job["model"]["checkpoint"])
    if "sampling" in job:
        job["sampling"] |= {"audit": 4}
    return job


def _with_few_repeats_and_windows(job):
    if job.get("plane", {}).get("repeats", 1) > 1:
        job["plane"]["repeats"] = 2
        job.get("grid", {}).get("alpha", [0, 0, 0])[2] = 3
    if job.get("data", {}).get("build") == "text":
        job["data"]["limit"] = SMALL_TEXT
    return job


def folder_of(page, ready, checkout, folder):
    """Make the folder of a page: what every page finds, then what it alone needs."""
    folder.mkdir()
    (folder / "ready").symlink_to(ready)
    for name in ("jobs", "slurm"):
        shutil.copytree(checkout / name, folder / name)
    (folder / "benchmarks").symlink_to(checkout / "benchmarks")
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/bin/activate").touch()
    shutil.copy(ready / "tiny.py", folder)
    shutil.copy(ready / "net.pt", folder)
    tiny_job(folder, grid=GRID)
    STAGES.get(page, lambda *_: None)(folder, ready)
    return folder


def _cluster(folder, ready):
    tiny_job(folder, grid=GRID, output__file="s.h5")
    _training_jobs(folder, ready)
    (folder / "panels").mkdir()
    for name in ("a", "b"):
        shutil.copy(folder / "job.yaml", folder / "panels" / f"{name}.yaml")


def _barriers(folder, _):
    for name in ("job.yaml", "curve.yaml"):
        tiny_job(folder, name, model__options={"batchnorm": True}, loss="cross_entropy")
    (folder / "nets/seed1").mkdir(parents=True)
    for seed, name in enumerate(("net.pt", "nets/seed1/epoch-0010.safetensors")):
        torch.manual_seed(seed)
        save_file(tiny.network(batchnorm=True).state_dict(), folder / name)


def _formats(folder, ready):
    shutil.copy(ready / "plane.h5", folder / "surface.h5")
    shutil.copy(ready / "path.h5", folder)
    with h5py.File(folder / "projection.h5", "w") as file:
        file["proj_xcoord"], file["proj_ycoord"] = [0.8, 0.3, 0.0], [-0.5, -0.2, 0.0]


def _data(folder, ready):
    (folder / "stored").mkdir()
    for split in ("train", "test"):
        images, labels = np.zeros((4, 3, 32, 32), np.uint8), np.arange(4)
        np.savez(folder / "stored" / f"{split}.npz", images=images, labels=labels)


def _training_jobs(folder, ready):
    for name in ("seed0", "seed1", "adam", "large_batch"):
        tiny_job(folder, f"{name}.yaml", grid=GRID, train=TRAIN | {"output": f"nets/{name}", "epochs": 1})


def _train(folder, ready):
    _training_jobs(folder, ready)
    tiny_job(folder, grid=GRID, train=TRAIN)
    for name in ("vgg9", "small", "large"):
        shutil.copytree(ready / "training", folder / "nets" / name)


def _plot(folder, ready):
    (folder / "surfaces").mkdir()
    epochs = [f"surfaces/epoch-{epoch:04d}" for epoch in (1, 2)]  # a film of one surface has many frames
    for name in ("small", "large", "surfaces/resnet56", "surfaces/resnet56_noshort", *epochs):
        shutil.copy(ready / "plane.h5", folder / f"{name}.h5")
    axis = np.linspace(-1, 1, 5)
    write(folder / "surfaces/volume.h5", axis, axis, {"train_loss": bowls(axis, axis, axis)}, gamma=axis)
    shutil.copy(ready / "line.r0.h5", folder / "worst.h5")
    for name in ("small.r0", "small.r1", "large.r0", "large.r1"):
        shutil.copy(ready / f"line.{name[-2:]}.h5", folder / f"{name}.h5")
    for name in ("small", "large", "vgg9"):
        shutil.copytree(ready / "training", folder / "nets" / name)
    for epoch in ("0010", "0030", "0100", "0150", "0200", "0300"):
        shutil.copy(ready / "training/epoch-0004.safetensors", folder / f"nets/vgg9/epoch-{epoch}.safetensors")


def _sampling(folder, ready):
    path = folder / "jobs/sampled/resnet20.yaml"
    shutil.copy(folder / "tiny.py", path.parent)
    (folder / "nets").mkdir()
    shutil.copy(folder / "net.pt", folder / "nets/resnet20-12fca82f.th")
    write_job(path, small(yaml.safe_load(path.read_text())))


def _api(folder, ready):
    call = 'import landscape_mpi\nlandscape_mpi.sweep(network, "cross_entropy", (inputs, targets), grid=3)\n'
    (folder / "my_script.py").write_text(PRELUDES["api.md"] + call)


PRELUDES = {"api.md": "import tiny\nnetwork = tiny.network()\ninputs, targets = tiny.data(None, 'train')\n"}
"""What the reader of a page has before its first line of Python."""


def _curvature(folder, ready):
    shutil.copy(ready / "curved.h5", folder / "spectrum.h5")


STAGES = {
    "barriers.md": _barriers,
    "api.md": _api,
    "page.md": _plot,
    "cluster.md": _cluster,
    "formats.md": _formats,
    "data.md": _data,
    "curvature.md": _curvature,
    "train.md": _train,
    "plot.md": _plot,
    "sampling.md": _sampling,
}
