"""`landscape-mpi demo`: its job is sound, and one command goes from nothing to figures, and again for free."""

import sys
from pathlib import Path

import pytest
import yaml

from landscape_mpi import demo
from landscape_mpi.errors import UserError
from landscape_mpi.job import SweepJob, TrainJob, read_job
from support.launch import launch


def test_its_job_is_sound_and_sweeps_what_it_trains():
    where = Path("demo/job.yaml")
    job, training = read_job(demo.JOB, where, SweepJob).values, read_job(demo.JOB, where, TrainJob).values.train
    assert job.model.checkpoint == f"{training.output}/epoch-{training.epochs:04d}.safetensors"
    assert job.output.file == "surface.h5"


def in_forks(command):
    """Run a step of the demo without the imports of a process of its own."""
    run = launch(*command[3:], program=tuple(command[:3]))
    assert run.returncode == 0, run.stderr
    return run.returncode


@pytest.mark.slow
def test_its_commands_train_sweep_and_draw_and_do_nothing_twice(tmp_path, monkeypatch, caplog):
    job = yaml.safe_load(demo.JOB)
    job["model"] |= {"options": {"width": 4}, "checkpoint": "training/epoch-0001.safetensors"}
    job["data"] |= {"options": {"images": 20}, "limit": 4}
    job["train"] |= {"epochs": 1, "drops": []}
    job["grid"] = {"alpha": [-1, 1, 3], "beta": [-1, 1, 3]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    monkeypatch.setattr(demo, "run", in_forks)
    monkeypatch.setattr(demo, "launch", list)
    caplog.set_level("INFO", "landscape_mpi")
    assert demo.demo(tmp_path) == 0
    assert {"surface.h5", "training", "contour.png", "landscape.png", "page.html"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert f"landscape-mpi info {tmp_path}/surface.h5" in caplog.text
    swept = (tmp_path / "surface.h5").stat().st_mtime_ns
    assert demo.demo(tmp_path) == 0
    assert (tmp_path / "surface.h5").stat().st_mtime_ns == swept


def test_the_job_is_written_and_one_of_the_users_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "run", lambda _: 0)
    monkeypatch.setattr(demo, "launch", list)
    demo.demo(tmp_path / "new")
    assert (tmp_path / "new/job.yaml").read_text() == demo.JOB
    (tmp_path / "new/job.yaml").write_text("mine")
    demo.demo(tmp_path / "new")
    assert (tmp_path / "new/job.yaml").read_text() == "mine"


def mpirun_that(folder, says, monkeypatch):
    """Put an mpirun first that prints something, on a machine of two cores."""
    (folder / "mpirun").write_text(f"#!/bin/sh\n{says}\n")
    (folder / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(demo.os, "sched_getaffinity", lambda _: {0, 1})


def test_ranks_that_see_each_other_sweep(tmp_path, monkeypatch):
    mpirun_that(tmp_path, "echo 2; echo 2", monkeypatch)
    assert demo.launch() == ["mpirun", "-n", "2"]
    _, sweep, *_ = demo.commands(Path("here"), demo.launch())
    assert sweep == ["mpirun", "-n", "2", "landscape-mpi", "sweep", "here/job.yaml"]


@pytest.mark.parametrize("says", ["echo 1; echo 1", "exit 1"], ids=["of another MPI", "as root"])
def test_an_mpirun_that_does_not_fit_is_left_out(tmp_path, monkeypatch, says):
    mpirun_that(tmp_path, says, monkeypatch)
    assert demo.launch() == []


def test_a_step_that_fails_ends_it_with_its_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PROGRAMS", {"landscape-mpi": (sys.executable, "-c", "raise SystemExit(75)")})
    monkeypatch.setattr(demo, "launch", list)
    assert demo.demo(tmp_path / "demo") == 75


def test_a_folder_that_is_a_file_is_a_mistake(tmp_path):
    (tmp_path / "demo").touch()
    with pytest.raises(UserError, match=r"cannot be written .*; expected the name of a folder"):
        demo.demo(tmp_path / "demo")


def test_ranks_of_mpirun_start_no_demo_each(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    with pytest.raises(UserError, match="found 4 processes; expected one: the demo calls mpirun itself"):
        demo.demo(tmp_path / "demo")
