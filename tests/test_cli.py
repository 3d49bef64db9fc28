"""The commands that only look: check, init, --version; and what the command line says of itself."""

import gc
import re
import sys
from pathlib import Path

import pytest
import yaml

from landscape_mpi import __version__, cli
from support.forks import fits
from support.jobs import tiny_job
from support.launch import environment, launch, server


@pytest.mark.slow
def test_check_says_what_a_job_costs_and_writes_nothing(tmp_path):
    job = tiny_job(tmp_path, plane__repeats=2)
    before = sorted(tmp_path.iterdir())
    run = launch("check", job, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert run.returncode == 0, run.stderr
    assert sorted(tmp_path.iterdir()) == before
    for part in (
        "the job is sound",
        "surface.r1.h5, will be created",
        "tiny:network, 67 parameters in 4 tensors",
        "random, cosine of delta and eta",
        "35 (5 x 7)",
        "40 train, 40 test",
        "on one rank like this one",
    ):
        assert part in run.stdout
    assert re.search(r"memory +about \d+ MB per rank", run.stdout)


@pytest.mark.slow
def test_check_knows_how_far_a_surface_is(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]})
    assert launch("sweep", job).returncode == 0
    assert "3 of 3 points are there" in launch("check", job).stdout


@pytest.mark.slow
def test_init_writes_a_job_and_never_over_another_file(tmp_path):
    path = tmp_path / "job.yaml"
    assert launch("init", path).returncode == 0
    assert yaml.safe_load(path.read_text())["model"]["build"] == "resnet20"
    path.write_text("mine")
    again = launch("init", path)
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")
    assert path.read_text() == "mine"


@pytest.mark.slow
def test_version_names_what_a_bug_report_needs():
    run = launch("--version", fresh=True)
    assert run.returncode == 0
    lines = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert lines["landscape_mpi"] == __version__
    assert {"python", "torch", "cuda", "numpy", "mpi4py", "mpi", "h5py", "hdf5", "kernel"} <= set(lines)
    assert {"matplotlib", "plotly"} <= set(lines)
    assert lines["mpi"].startswith("none") or Path(lines["mpi_library"]).is_file()
    checkout = Path(__file__).parents[1]
    assert ("commit" in lines) == (checkout / ".git").exists()


@pytest.mark.parametrize("command", ["landscape_mpi", "landscape_mpi.plot"])
def test_help_loads_nothing_that_takes_time(command):
    run = launch("--help", program=[sys.executable, "-X", "importtime", "-m", command])
    assert run.stdout.startswith("usage: ")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"torch", "numpy", "h5py", "matplotlib", "mpi4py", "yaml"}


def test_the_garbage_collector_runs_again_after_an_import_that_failed():
    with pytest.raises(ImportError), cli.heavy_imports():
        raise ImportError
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    assert gc.isenabled()
    assert frozen > 0


@pytest.mark.parametrize("arguments", [[], ["swep", "job.yaml"], ["sweep"], ["sweep", "job.yaml", "--points", "3"]])
def test_a_command_line_that_does_not_fit_exits_with_2(arguments):
    run = launch(*arguments)
    assert run.returncode == 2
    assert "error: " in run.stderr


def test_commands_of_these_tests_are_forks_of_the_one_server():
    """In new interpreters they would take ten times as long, and do the same."""
    assert fits(server().env, environment())
