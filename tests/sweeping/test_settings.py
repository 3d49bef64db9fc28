"""Sweeps of a job with settings of the command line: the job in the surface, shards, going on, and refusals."""

import shlex

import pytest

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.job import SweepJob, read_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import read_surface
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import remedies
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support.jobs import results, tiny_job
from support.launch import launch

SETTINGS = ("grid.alpha=[-1, 1, 3]", "grid.beta=null", "plane.seed=5", "output.file=it is.h5")


def swept(job, *settings, **flags):
    return sweep(job, Options(device="cpu", settings=settings, **flags), Solo())


@pytest.mark.slow
def test_the_surface_is_that_of_a_job_file_that_says_so_and_holds_that_job(tmp_path):
    job = tiny_job(tmp_path)
    assert swept(job, *SETTINGS) == Exit.COMPLETE
    said = tiny_job(tmp_path, "said.yaml", grid={"alpha": [-1, 1, 3]}, plane__seed=5, output__file="said.h5")
    assert swept(said) == Exit.COMPLETE
    assert results(tmp_path / "it is.h5") == results(tmp_path / "said.h5")
    recorded = read_job(read_surface(tmp_path / "it is.h5").job, job, SweepJob).values
    assert (recorded.plane.seed, recorded.grid.beta, recorded.output.file) == (5, None, "it is.h5")
    assert swept(job, *SETTINGS) == Exit.COMPLETE


def test_a_setting_that_makes_another_experiment_is_refused_as_in_a_file(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [-1, 1, 2]})
    assert swept(job, "plane.seed=5") == Exit.COMPLETE
    before = (tmp_path / "surface.h5").read_bytes()
    with pytest.raises(UserError, match=r"plane\.seed: the file has 5 and the job says 6"):
        swept(job, "plane.seed=6")
    assert (tmp_path / "surface.h5").read_bytes() == before


@pytest.mark.slow
def test_shards_of_a_job_with_settings_are_merged_and_say_how_to_go_on(tmp_path):
    job = tiny_job(tmp_path)
    assert swept(job, *SETTINGS, shard="0/2") == Exit.COMPLETE
    merged = merge(tmp_path / "it is.h5", [tmp_path / "it is.shard-0-of-2.h5"]).surface
    (command,) = remedies(merged)
    words = shlex.split(command.partition("#")[0])
    assert words[:5] == ["python", "-m", "landscape_mpi", "sweep", "job.yaml"]
    assert words[6:13:2] == [*SETTINGS]
    assert words[5:12:2] == ["--set"] * 4
    assert words[-2:] == ["--shard", "1/2"]
    run = launch(*words[3:], cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert merge(tmp_path / "it is.h5", [tmp_path / "it is.shard-1-of-2.h5"]).surface.complete


@pytest.mark.slow
def test_every_command_that_reads_a_job_takes_settings(tmp_path):
    job = tiny_job(tmp_path)
    run = launch("check", job, "--set", "grid.alpha=[0, 1, 3]", "--set", "grid.beta=[0, 1, 2]")
    assert "6 (2 x 3)" in run.stdout, run.stderr
    for command in ("sweep", "check", "train"):
        run = launch(command, job, "--set", "model.biuld=x")
        assert run.returncode == 2
        assert run.stderr.startswith("error: --set: model.biuld: unknown key (did you mean `build`?)"), run.stderr
