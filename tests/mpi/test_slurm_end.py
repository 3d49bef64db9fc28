"""When SLURM ends the job: its environment says, or squeue does; whatever else happens is no end."""

import os
from datetime import datetime

import pytest

from landscape_mpi.mpi import slurm


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Put a squeue in PATH that notes how it was called and answers as told."""

    def answer(script):
        program = tmp_path / "squeue"
        program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return lambda: (tmp_path / "calls").read_text().split() if (tmp_path / "calls").exists() else []

    return answer


def test_the_environment_says_so_without_a_question(squeue):
    calls = squeue("echo 2030-01-02T03:04:05")
    assert slurm.job_end({"SLURM_JOB_END_TIME": "2000", "SLURM_JOB_ID": "7"}) == 2000.0
    assert slurm.job_end({}) is None
    assert slurm.job_end({"SLURM_JOB_ID": "7; rm"}) is None
    assert calls() == []


@pytest.mark.parametrize(
    ("more", "number"), [({}, "9"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2")]
)
def test_squeue_is_asked_for_this_job_or_this_task(squeue, more, number):
    calls = squeue("echo 2030-01-02T03:04:05")
    found = slurm.job_end({"SLURM_JOB_ID": "9", "SLURM_JOB_END_TIME": "nonsense", **more})
    assert datetime.fromtimestamp(found).isoformat() == "2030-01-02T03:04:05"
    assert calls() == ["--noheader", f"--jobs={number}", "--format=%e"]


@pytest.mark.parametrize("script", ["echo N/A", "exit 1", "true", "exec sleep 100", "echo Unknown"])
def test_no_answer_is_no_end(squeue, script, monkeypatch):
    squeue(script)
    monkeypatch.setattr(slurm, "PATIENCE", 0.3)
    assert slurm.job_end({"SLURM_JOB_ID": "9"}) is None


def test_no_squeue_is_no_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.job_end({"SLURM_JOB_ID": "9"}) is None
