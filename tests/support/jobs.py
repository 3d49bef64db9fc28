"""Job files for the tests, with everything they point at; and what a surface file holds, to compare."""

import copy
import shutil
from pathlib import Path

import h5py
import torch
import yaml

from support import tiny

HERE = Path(__file__).parent
TINY = {
    "model": {"build": "tiny:network", "checkpoint": "net.pt"},
    "data": {"build": "tiny:data"},
    "loss": "tiny:cross_entropy",
    "plane": {"kind": "random", "seed": 3},
    "grid": {"alpha": [-1, 1, 7], "beta": [-0.5, 1, 5]},
    "output": {"file": "surface.h5"},
}
LINE_JOB = """\
model: {build: resnet20, checkpoint: nets/theta.pt}
data: {build: cifar10, root: data, splits: [train]}
plane: {kind: random}
grid: {alpha: [-1, 1, 8]}
metrics: [loss]
output: {file: s.h5}
"""
"""The text of a job on a line of eight points, for surfaces that no network computes."""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
BOOKKEEPING = {"seconds", "rank", "error", "finished", "complete", "job", "audit", "rounds"}


def changed(job, changes):
    """A copy of a job with dotted keys set, or removed where the value is None."""
    job = copy.deepcopy(job)
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = job
        for section in sections:
            place = place.setdefault(section, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return job


def tiny_job(folder, name="job.yaml", **changes):
    """Write a tiny job, its module and its checkpoint; changes are dotted keys with `__` for the dot."""
    shutil.copy(HERE / "tiny.py", folder / "tiny.py")
    if not (folder / "net.pt").exists():
        torch.manual_seed(0)
        torch.save(tiny.network().state_dict(), folder / "net.pt")
    return write_job(folder / name, changed(TINY, {key.replace("__", "."): value for key, value in changes.items()}))


def resnet20_job(folder, data, shared, limit=64, **changes):
    """Write a job on the published ResNet-20 and the first training images of CIFAR-10."""
    job = {
        "model": {
            "build": "resnet20",
            "options": {"shortcut": "pad"},
            "checkpoint": str(shared / "resnet20-12fca82f.th"),
        },
        "data": {"build": "cifar10", "root": str(data), "normalize": IMAGENET, "splits": ["train"], "limit": limit},
        "plane": {"kind": "random", "seed": 1},
        "grid": {"alpha": [-1, 1, 4], "beta": [-0.5, 1, 3]},
        "output": {"file": "surface.h5"},
    }
    return write_job(
        folder / "job.yaml", changed(job, {key.replace("__", "."): value for key, value in changes.items()})
    )


def write_job(path, job):
    path.write_text(yaml.safe_dump(job, sort_keys=False))
    return path


def results(path):
    """The bytes of every result dataset and of the status."""
    with h5py.File(path, "r", locking=False) as file:
        return {
            name: (item.shape, item[()].tobytes())
            for name, item in file.items()
            if isinstance(item, h5py.Dataset) and name not in BOOKKEEPING
        }


def done(path):
    """How many points a surface file says are done; 0 where there is no file."""
    if not path.exists():
        return 0
    with h5py.File(path, "r", locking=False) as file:
        return int((file["status"][()] == 1).sum())
