"""What this machine has of MPI, HDF5, SLURM, a compiler and a browser, and what of it tests may not do without."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import h5py

from support.launch import launch, mpirun

WORLD_SIZE = "from mpi4py import MPI; print(MPI.COMM_WORLD.size)"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KERNELS = ("landscape_mpi.engines._winograd", "landscape_mpi.plane._kernel")
SLURM_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")


def way_of_setup(prefix: Path | None = None) -> str | None:
    """How `make setup` made this environment: "apt", "pip", or None where it did not."""
    record = (prefix or Path(sys.prefix)) / ".landscape-setup"
    if not record.exists():
        return None
    return dict(line.split("=", 1) for line in record.read_text().splitlines()).get("way")


def no_mpi() -> str | None:
    """Why tests cannot run on two MPI ranks."""
    if mpirun() is None:
        return "there is no mpirun"
    run = launch(ranks=2, program=(sys.executable, "-c", WORLD_SIZE), timeout=60)
    if "".join(run.stdout.split()) == "22":  # two ranks may print into one line
        return None
    return f"mpirun -n 2 gives no world of two ranks: {run.stdout} {run.stderr[-500:]}".strip()


def no_hdf5() -> str | None:
    """Why tests cannot write through parallel HDF5."""
    return None if h5py.get_config().mpi else f"h5py {h5py.__version__} is built without MPI"


def no_kernel() -> str | None:
    """Why tests cannot use the compiled kernels."""
    missing = [name for name in KERNELS if find_spec(name) is None]
    return f"the package was installed without a C compiler, or before there was {missing[0]}" if missing else None


def no_slurm() -> str | None:
    """Why tests cannot start a SLURM of their own."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    missing = [name for name in SLURM_PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"SLURM is not installed ({missing[0]} is missing)"
    return None if os.geteuid() == 0 else "only root can start a SLURM of its own"


def browser() -> str | None:
    """The program of a browser that playwright can drive."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def no_browser() -> str | None:
    """Why tests cannot open a web page."""
    if find_spec("playwright") is None:
        return "playwright is not installed"
    return None if browser() else "there is no Chromium (apt-get install chromium)"


PARTS: dict[str, Callable[[], str | None]] = {
    "mpi": cache(no_mpi),
    "hdf5": cache(no_hdf5),
    "slurm": cache(no_slurm),
    "kernel": cache(no_kernel),
    "browser": cache(no_browser),
}


def required(names: str, way: str | None, *, debian_root: bool) -> frozenset[str]:
    """The parts whose absence is a failure.

    Args:
        names: LANDSCAPE_REQUIRE, names separated by commas.
        way: how the environment was set up; "pip" does without parallel HDF5 on purpose.
        debian_root: on Debian as root, where nothing keeps `make setup` from installing parallel HDF5.

    Raises:
        ValueError: LANDSCAPE_REQUIRE names something else than a part.
    """
    wanted = {name.strip() for name in names.split(",")} - {""}
    if unknown := wanted - set(PARTS):
        message = f"LANDSCAPE_REQUIRE={names}: {min(unknown)!r} is not one of {', '.join(PARTS)}"
        raise ValueError(message)
    return frozenset(wanted | {"hdf5"}) if debian_root and way != "pip" else frozenset(wanted)


def required_here() -> frozenset[str]:
    """What is required on this machine, in this environment."""
    debian_root = Path("/etc/debian_version").exists() and os.geteuid() == 0
    return required(os.environ.get("LANDSCAPE_REQUIRE", ""), way_of_setup(), debian_root=debian_root)
