"""What stands in for commands that take hours or a cluster: their arguments are checked, their files are small ones.

Run by the wrappers in bin/, in the folder of a page, which holds small files of every kind in `ready/`.
"""

import contextlib
import io
import re
import runpy
import shutil
import sys
from pathlib import Path

from landscape_mpi.job import JobFile, SweepJob, TrainJob, load_job

READY = Path("ready")


def script(name: str, *arguments: str) -> None:
    """Check that a script of the repository has the flags that it is called with."""
    sys.argv, sys.path[:0] = [name, "--help"], [str(Path(name).parent)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_path(name, run_name="__main__")
    unknown = [flag for flag in arguments if flag.startswith("--") and not re.search(rf"{flag}\b", said.getvalue())]
    if unknown:
        sys.exit(f"{name} has no {', '.join(unknown)}")


def hours(command: str, *jobs: str) -> None:
    """Read jobs as `sweep` or `train` reads them, and put a small surface or training where theirs would be."""
    for name in jobs:
        if command == "train":
            job = load_job(Path(name), TrainJob)
            shutil.copytree(READY / "training", job.resolve(job.values.train.output), dirs_exist_ok=True)
        else:
            job = load_job(Path(name), SweepJob)
            file = job.resolve(job.values.output.file)
            file.parent.mkdir(parents=True, exist_ok=True)
            for ready, name in _surfaces(job, file).items():
                shutil.copy(READY / ready, name)


def _surfaces(job: JobFile[SweepJob], file: Path) -> dict[str, Path]:
    """Return what stands in for a job's surfaces: a file, or one for each of a few random directions."""
    if getattr(job.values.plane, "repeats", 1) > 1:
        return {f"line.r{number}.h5": file.with_suffix(f".r{number}.h5") for number in range(2)}
    return {_surface(job): file}


def _surface(job: JobFile[SweepJob]) -> str:
    if getattr(job.values.plane, "trajectory", None):
        return "path.h5"
    if "hessian" in job.values.metrics:
        return "curved.h5"
    return "line.r0.h5" if job.values.axes == 1 else "plane.h5"


def jobs(*arguments: str) -> None:
    """Check what a batch script is given: jobs that are sound, or the number of shards."""
    for argument in arguments:
        if not argument.isdigit():
            kind = TrainJob if "\ntrain:" in Path(argument).read_text() else SweepJob
            load_job(Path(argument), kind)


if __name__ == "__main__":
    {"script": script, "hours": hours, "jobs": jobs}[sys.argv[1]](*sys.argv[2:])
