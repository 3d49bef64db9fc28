"""The batch scripts as text, and as programs that think they are in a job: what SLURM needs no part in."""

import os
import sys

import pytest
import torch

from landscape_mpi.surface.status import progress
from support import tiny
from support.jobs import tiny_job
from support.launch import launch

THAT_RUN = ("sweep", "array", "many-jobs", "train")
SHARED = "# --- from here on the same in "


@pytest.fixture
def text(checkout):
    """A function that reads a script."""
    return lambda name: (checkout / "slurm" / f"{name}.sbatch").read_text()


def test_what_the_scripts_share_is_the_same(text):
    shared = {text(name).partition(SHARED)[2] for name in THAT_RUN}
    assert len(shared) == 1
    assert "scontrol requeue" in shared.pop()


@pytest.mark.parametrize("name", THAT_RUN)
def test_a_script_that_runs_something_is_warned_requeued_and_keeps_its_log(text, name):
    options = {line.removeprefix("#SBATCH ") for line in text(name).splitlines() if line.startswith("#SBATCH ")}
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append"} <= options


@pytest.mark.parametrize("name", [*THAT_RUN, "merge"])
def test_what_the_user_fills_in_is_marked_and_off(text, name):
    for option in ("##SBATCH --account=ACCOUNT", "##SBATCH --partition=PARTITION", "# module load"):
        assert f"\n{option}" in text(name)


STUBS = {"scontrol": 'echo "$@" >>said', "launcher": 'shift 2; exec "$@"'}


@pytest.fixture
def script(checkout, tmp_path):
    """A function that runs a script without a SLURM: what it tells scontrol, and how it ends."""
    for name, line in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    own = {"SLURM_JOB_ID": "7", "PYTHON": sys.executable, "LAUNCHER": str(tmp_path / "launcher")}

    def run(name, *arguments, **more):
        program = ("bash", str(checkout / "slurm" / f"{name}.sbatch"))
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        (tmp_path / "said").write_text("")
        ended = launch(*arguments, program=program, cwd=tmp_path, env=own | {"PATH": path} | more)
        return ended.returncode, (tmp_path / "said").read_text(), ended.stdout + ended.stderr

    return run


@pytest.mark.slow
def test_a_job_whose_rank_died_queues_itself_again_until_nothing_new_is_done(script, tmp_path):
    job = tiny_job(tmp_path, model__build="tiny:deadly", grid={"alpha": [0, 3, 7]}, evaluate={"engine": "eager"})
    for _ in range(2):  # the second time all others are done
        code, said, log = script("sweep", job, TINY_DEADLY="2")
        assert (code, said) == (1, "requeue 7\n"), log
    code, said, log = script("sweep", job, TINY_DEADLY="2")
    assert (code, said) == (3, ""), log
    for _ in range(3):
        assert script("sweep", job, TINY_DEADLY="0")[:2] == (1, "requeue 7\n")  # at theta*, before any point
    code, said, log = script("sweep", job, TINY_DEADLY="0")
    assert (code, said) == (1, "")
    assert "ranks died 4 times in a row and nothing new was done" in log
    assert not list(tmp_path.glob(".landscape-7.deaths"))


@pytest.mark.slow
def test_exit_code_1_of_another_reason_queues_nothing(script, tmp_path):
    job = tiny_job(tmp_path, model__build="tiny:Dropping", model__checkpoint="dropping.pt")
    torch.save(tiny.Dropping().state_dict(), tmp_path / "dropping.pt")
    code, said, log = script("sweep", job)
    assert (code, said) == (1, ""), log


@pytest.mark.slow
def test_how_far_a_job_has_got_grows_with_its_points(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [0, 1, 3]})
    assert progress(["sweep", str(job)]) == 0
    assert launch("sweep", job, "--quiet").returncode == 0
    assert progress(["sweep", str(job)]) == 3
    assert progress(["sweep", str(job), "--shard", "0/2"]) == 0
    assert progress(["sweep", str(job), "--set=output.file=other.h5"]) == 0


@pytest.mark.slow
def test_settings_reach_the_command_and_the_merge(script, tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [0, 1, 3]})
    given = ("--set", "output.file=a name.h5", "--set=grid.alpha=[0, 1, 4]")
    for task in range(2):
        code, said, log = script("array", job, *given, "2", SLURM_ARRAY_TASK_ID=str(task))
        assert (code, said) == (0, ""), log
    code, _, log = script("merge", job, *given, SHARDS="2")
    assert code == 0, log
    assert "a name.h5: 4 of 4 done (complete)" in log
    code, _, log = script("sweep", job, *given)
    assert code == 0, log
    assert not (tmp_path / "surface.h5").exists()
    code, _, log = script("many-jobs", job, "--set", SLURM_ARRAY_TASK_ID="0")
    assert (code, "--set: found ''; expected KEY=VALUE" in log) == (2, True), log
