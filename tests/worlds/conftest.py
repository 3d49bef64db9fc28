"""Tests of many ranks within one mpirun: every rank runs all of them, and `tests/mpi/test_worlds.py` starts it.

    mpirun -n 3 python -m pytest tests/worlds

A test that fails on one rank ends the job, because the others may wait for that rank for ever; what failed is in
REPORTS/rank-N.txt, and what was begun last.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from landscape_mpi.mpi.communicator import open_world
from landscape_mpi.mpi.launcher import launcher_of
from support.jobs import tiny_job

REPORTS = "WORLD_REPORTS"
GRID = {"alpha": [-1, 1, 4], "beta": [-0.5, 1, 3]}
"""Of most jobs: each rank has several points."""
collect_ignore_glob = [] if launcher_of(os.environ) else ["test_*.py"]


@pytest.fixture(scope="session")
def world():
    """The world of all ranks."""
    return open_world()


@pytest.fixture
def folder(world):
    """An empty folder that all ranks have in common."""
    place = world.allgather(tempfile.mkdtemp(prefix="worlds-") if world.rank == 0 else None)[0]
    yield Path(place)
    world.barrier()
    if world.rank == 0:
        shutil.rmtree(place)


@pytest.fixture
def job(world, folder):
    """A function that writes a tiny job for all ranks into `folder`."""

    def write(name="job.yaml", **changes):
        if world.rank == 0:
            tiny_job(folder, name, **{"grid": GRID} | changes)
        world.barrier()
        return folder / name

    return write


def pytest_runtest_logstart(nodeid):
    _report(f"begun {nodeid}\n")


def pytest_runtest_logreport(report):
    if report.failed:
        _report(f"failed {report.nodeid} ({report.when})\n{report.longreprtext}\n")
        _abort()
    elif report.when == "call":
        _report(f"{report.outcome} {report.nodeid}\n")


def _abort():
    from mpi4py import MPI

    MPI.COMM_WORLD.Abort(1)


def _report(text):
    if os.environ.get(REPORTS):
        rank = launcher_of(os.environ).rank
        with Path(os.environ[REPORTS], f"rank-{rank}.txt").open("a") as file:
            file.write(text)
