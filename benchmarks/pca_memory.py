"""The memory and time that the principal components of a trajectory take, for more and more checkpoints of a VGG-9.

    python benchmarks/pca_memory.py [--checkpoints 30 300] [--format safetensors torch] [--folder FOLDER]

The checkpoints are made up: a walk from one random VGG-9 to another with noise, 11 MB each, removed afterwards. Each
measurement is a process of its own that does what rank 0 of a sweep does: it looks the files through, takes two
components and projects every checkpoint. `grown` is its peak of resident memory (ru_maxrss) above that before the first
checkpoint.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import nn

from landscape_mpi.job import PcaPlane, SweepJob, load_job
from landscape_mpi.mpi.shutdown import NEVER
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.load import JobSource
from landscape_mpi.sweeping.planes.pca import components
from landscape_mpi.sweeping.planes.trajectory import find_run, place
from landscape_mpi.sweeping.theta import theta_of

STAGES = ((64, 64), (128, 128), (256, 256, 256))
ENDINGS = {"safetensors": "safetensors", "torch": "pt"}
JOB = """\
model: {{build: "pca_memory:vgg9", checkpoint: theta.{ending}}}
data: {{build: shapes10}}
plane: {{kind: pca, trajectory: "epoch-*.{ending}"}}
output: {{file: surface.h5}}
"""


def vgg9() -> nn.Module:
    """Return the paper's VGG-9 with batch norm, 2.79 million parameters."""
    return nn.Sequential(*_convolutions(), nn.Flatten(), nn.Linear(4096, 256), nn.BatchNorm1d(256), nn.Linear(256, 10))


def _convolutions() -> Iterator[nn.Module]:
    width = 3
    for stage in STAGES:
        for channels in stage:
            yield from (nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
            width = channels
        yield nn.MaxPool2d(2)


def prepare(folder: Path, count: int, ending: str) -> None:
    """Write a job and the checkpoints it names."""
    torch.manual_seed(0)
    first, last = vgg9().state_dict(), vgg9().state_dict()
    _save(last, folder / f"theta.{ending}")
    for epoch in range(count):
        share = (1 - epoch / count) ** 2
        state = {
            name: tensor + share * (first[name] - tensor) + 0.01 * share * torch.randn(tensor.shape)
            for name, tensor in last.items()
            if tensor.is_floating_point()
        }
        _save(last | state, folder / f"epoch-{epoch:04d}.{ending}")
    (folder / "job.yaml").write_text(JOB.format(ending=ending))


def _save(state: dict[str, torch.Tensor], path: Path) -> None:
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    if path.suffix == ".pt":
        torch.save(floats, path)
    else:
        save_file(floats, path)


def measure(job: Path) -> dict[str, float]:
    """Find the plane of a job and the path on it; return what it took, in seconds of CPU and bytes."""
    torch.set_num_threads(1)
    loaded = load_job(job, SweepJob)
    theta = theta_of(*JobSource(loaded).network(), loaded.values.evaluate, torch.device("cpu"))
    before, begun = _peak(), time.process_time()
    section, origin, run = loaded.values.plane, theta.parameters, find_run(loaded, theta, NEVER)
    if run is None or not isinstance(section, PcaPlane):
        raise RuntimeError("the job asks for no components of a trajectory")
    found = components(section, run, origin, 2)
    place(run, Plane.along(origin, found.directions), found.explained)
    return {"seconds": time.process_time() - begun, "before": before, "grown": _peak() - before}


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Measure and print a table; with --of, be one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=(30, 300))
    parser.add_argument("--format", choices=ENDINGS, nargs="+", default=("safetensors",))
    parser.add_argument("--folder", type=Path, help="where the checkpoints are made; default: the system's own")
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.of:
        sys.stdout.write(json.dumps(measure(options.of)) + "\n")
        return 0
    sys.stdout.write("format       checkpoints   MB of files   grown MB   peak MB     CPU s\n")
    for form in options.format:
        for count in options.checkpoints:
            with TemporaryDirectory(dir=options.folder) as name:
                sys.stdout.write(_row(Path(name), count, form) + "\n")
                sys.stdout.flush()
    return 0


def _row(folder: Path, count: int, form: str) -> str:
    prepare(folder, count, ENDINGS[form])
    files = sum(path.stat().st_size for path in folder.glob("epoch-*"))
    here = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    line = [sys.executable, __file__, "--of", str(folder / "job.yaml")]
    found = json.loads(subprocess.run(line, env=here, stdout=subprocess.PIPE, text=True, check=True).stdout)
    megabytes = (files / 1e6, found["grown"] / 1e6, (found["before"] + found["grown"]) / 1e6)
    return f"{form:12}{count:12}{megabytes[0]:14,.0f}{megabytes[1]:11.0f}{megabytes[2]:10.0f}{found['seconds']:10.1f}"


if __name__ == "__main__":
    sys.exit(main())
