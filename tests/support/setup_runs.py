"""Runs the real `make setup` and commands in what it made, as from a user's shell; links the tests' own torch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

from support.launch import Run, finish

CHECKOUT = Path(__file__).resolve().parents[2]
OF_THE_TESTS = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VENV", "MPI", "PYTHON", "TORCH_FROM", "VIRTUAL_ENV")
SAVE_TIME = {"PIP_NO_COMPILE": "false"}  # pip's way of saying --no-compile by a variable; halves its work


def users_environment() -> dict[str, str]:
    """This process's environment without what the make and the virtual environment around the tests have set."""
    own = {key: value for key, value in os.environ.items() if key not in OF_THE_TESTS}
    path = own["PATH"].split(os.pathsep)
    own["PATH"] = os.pathsep.join(folder for folder in path if Path(folder) != Path(sys.executable).parent)
    return own | SAVE_TIME


def torch_folder() -> Path:
    """The site-packages folder that holds the tests' own torch.

    Raises:
        ModuleNotFoundError: there is none.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        message = "the tests' own environment has no torch"
        raise ModuleNotFoundError(message)
    return Path(spec.origin).parents[1]


def start_setup(venv: Path, way: str, **variables: str) -> Run:
    """Start `make setup VENV=... MPI=way NAME=VALUE...`."""
    settings = {"VENV": str(venv), "MPI": way, "TORCH_FROM": str(torch_folder())} | variables
    line = ["make", "--no-print-directory", "setup", *(f"{key}={value}" for key, value in settings.items())]
    return Run(line, CHECKOUT, users_environment())


def make_setup(venv: Path, way: str, **variables: str) -> CompletedProcess[str]:
    """Run `make setup` to its end."""
    return finish(start_setup(venv, way, **variables), timeout=900)


def in_environment(venv: Path, *line: str | Path) -> CompletedProcess[str]:
    """Run a command in an environment by way of tools/run.sh, outside the checkout."""
    run = Run([str(CHECKOUT / "tools/run.sh"), *map(str, line)], venv, users_environment() | {"VENV": str(venv)})
    return finish(run, timeout=300)


def bare_environment(folder: Path) -> Path:
    """A virtual environment that holds pip and a link to the tests' own torch, nothing else."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    for pattern in ("torch", "torchgen", "functorch", "torch-*.dist-info", "nvidia*", "cuda*", "triton*"):
        for part in torch_folder().glob(pattern):
            (site_packages / part.name).symlink_to(part.resolve())
    return folder
