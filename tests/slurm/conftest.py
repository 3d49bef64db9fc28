"""One SLURM for all tests of this folder, and how they hand it our scripts."""

import os
import sys
from pathlib import Path

import pytest

from support import forks
from support.jobs import results, tiny_job
from support.launch import launch, server
from support.slurm import Slurm


@pytest.fixture(scope="session")
def slurm():
    """A SLURM of four virtual nodes."""
    made = Slurm()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The tiny job, swept by one process without SLURM: its results."""
    folder = tmp_path_factory.mktemp("plain")
    run = launch("sweep", tiny_job(folder))
    assert run.returncode == 0, run.stderr
    return results(folder / "surface.h5")


@pytest.fixture
def folder(tmp_path):
    """A folder with a tiny job, whose name has to be quoted."""
    made = tmp_path / "a folder"
    made.mkdir()
    tiny_job(made)
    return made


@pytest.fixture(scope="session")
def activated(slurm):
    """The variables of an activated environment; see `bin/python`."""
    programs = [Path(__file__).parent / "bin", Path(sys.executable).parent, slurm.env["PATH"]]
    found = {"FORKS": forks.__file__, "FORKS_SOCKET": server().place, "FORKS_PYTHON": sys.executable}
    return found | {"PATH": os.pathsep.join(map(str, programs))}


@pytest.fixture
def submit(slurm, folder, checkout, activated):
    """A function that hands one of our scripts to SLURM from the job's folder and returns the number of the job."""

    def submit(script, *arguments, options=(), env=None):
        path = checkout / "slurm" / f"{script}.sbatch"
        return slurm.submit(*options, path, *arguments, env=activated | dict(env or {}), cwd=folder)

    return submit
