"""Shows all steps on a network of its own: trains it, sweeps the loss around it and draws it, with no download.

Each step is the command that users type, in a process of its own, so that the demo is also an example to follow.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.log import say
from landscape_mpi.mpi.launcher import launcher_of

PROGRAMS = {
    "landscape-mpi": (sys.executable, "-m", "landscape_mpi"),
    "landscape-plot": (sys.executable, "-m", "landscape_mpi.plot"),
}
"""The programs of this package, found without the search path."""
MOST_RANKS = 4
PATIENCE = 60.0
"""Seconds for mpirun to start ranks."""
WORLD = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
JOB = """\
# The job of `landscape-mpi demo`: a small ResNet-20, trained on images of ten shapes that are made on the spot.
# Change it, and run its commands by hand: `landscape-mpi init` writes a job with every key explained.

model:
  build: resnet20
  options: {width: 8}
  checkpoint: training/epoch-0012.safetensors    # theta*: the last epoch of the training below

data:
  build: shapes10
  options: {images: 500}                         # for training; 125 more for testing
  splits: [train]
  limit: 100                                     # the first 100 images, at every point

train: {output: training, epochs: 12, batch: 10, lr: 0.01, drops: [10], augment: false}

plane: {kind: random, seed: 0}                   # two random directions, filter-normalised
grid: {alpha: [-1, 1, 21], beta: [-1, 1, 21]}
output: {file: surface.h5}
"""
NEXT = """\
Open {page} in a browser and turn the landscape. What to do next:
  landscape-mpi info {surface}    # how sharp, how wide, where from
  landscape-mpi init my-job.yaml    # a job for your own network and data, every key explained
  mpirun -n 8 landscape-mpi sweep my-job.yaml    # on as many ranks as you have"""


def demo(folder: Path) -> int:
    """Train, sweep and draw in a folder, which is made; a finished training and sweep are not repeated.

    Args:
        folder: gets `job.yaml`, unless it has one, the training, the surface, the figures and the page.

    Returns:
        The exit code of the first step that does not end with 0, else 0.

    Raises:
        UserError: the folder cannot be written, or a launcher has started the demo several times.
    """
    launcher = launcher_of(os.environ)
    if launcher and launcher.many:
        raise UserError("", f"found {launcher.size} processes", expected="one", remedy="the demo calls mpirun itself")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "job.yaml", replace=False) as file:
            file.write_text(JOB, encoding="utf-8")
    except OSError as error:
        raise UserError(folder, f"cannot be written ({error.strerror})", expected="the name of a folder") from None
    for words in commands(folder, launch()):
        say(f"$ {shlex.join(words)}")
        code = run([part for word in words for part in PROGRAMS.get(word, (word,))])
        if code:
            return code
    say(NEXT.format(page=folder / "page.html", surface=folder / "surface.h5"))
    return Exit.COMPLETE


def commands(folder: Path, launch: Sequence[str]) -> Iterator[list[str]]:
    """Yield the commands of the demo as users type them; `launch` starts the ranks of the sweep, if there are any."""
    job, surface = str(folder / "job.yaml"), str(folder / "surface.h5")
    yield ["landscape-mpi", "train", job]
    yield [*launch, "landscape-mpi", "sweep", job]
    yield ["landscape-plot", surface, "--log", "-o", str(folder / "contour.png")]
    yield ["landscape-plot", surface, "--kind", "surface", "--log", "-o", str(folder / "landscape.png")]
    yield ["landscape-plot", surface, "--html", str(folder / "page.html")]


def launch() -> list[str]:
    """Return `mpirun -n N`, a rank per core, where it starts ranks that see each other here; else nothing."""
    size = min(MOST_RANKS, len(os.sched_getaffinity(0)))
    command = ["mpirun", "-n", str(size)]
    if size == 1 or shutil.which(command[0]) is None:
        return []
    try:
        probe = [*command, sys.executable, "-c", WORLD]
        found = subprocess.run(probe, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        found = []
    if found == [str(size)] * size:
        return command
    say(f"note: {shlex.join(command)} starts no ranks that see each other here, so one process sweeps.")
    return []


def run(command: Sequence[str]) -> int:
    """Run a command and return its exit code; an interruption reaches it as well, and it ends in its own way."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
