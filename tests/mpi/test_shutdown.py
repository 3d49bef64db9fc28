"""Reasons to stop: signals, heard in this process alone, and the end of the SLURM job, by its environment or squeue."""

import os
import signal
from datetime import datetime

import pytest

from landscape_mpi.mpi import shutdown
from landscape_mpi.mpi.shutdown import SIGNALS, Stop


def in_a_fork(action):
    """The wait status of a forked process that runs an action."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(3)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_forked_process_has_the_handlers_of_before(number):
    def action():
        before = signal.getsignal(number)
        os._exit(0 if before in (signal.SIG_DFL, signal.default_int_handler) else 1)

    stop = Stop()
    with stop.listening():
        assert os.waitstatus_to_exitcode(in_a_fork(action)) == 0
        os.kill(os.getpid(), number)
        assert stop.reason == signal.Signals(number).name


def test_sigterm_ends_a_forked_process_while_we_listen_and_a_handler_set_later_is_left_alone():
    with Stop().listening():
        status = in_a_fork(lambda: (os.kill(os.getpid(), signal.SIGTERM), signal.pause()))
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ignored = in_a_fork(lambda: os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else 1))
        assert os.waitstatus_to_exitcode(ignored) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_to_a_process_that_has_only_just_been_forked_is_not_lost():
    to_child = []  # hooks are for ever
    os.register_at_fork(after_in_child=lambda: [os.kill(os.getpid(), number) for number in to_child])
    with Stop().listening():
        to_child.append(signal.SIGTERM)
        status = in_a_fork(lambda: os._exit(0))
        to_child.clear()
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)
        assert in_a_fork(lambda: os._exit(len(signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)))) == 0


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
    assert shutdown.job_end({"SLURM_JOB_END_TIME": "2000", "SLURM_JOB_ID": "7"}) == 2000.0
    assert shutdown.job_end({}) is None
    assert shutdown.job_end({"SLURM_JOB_ID": "7; rm"}) is None
    assert calls() == []


@pytest.mark.parametrize(
    ("more", "number"), [({}, "9"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2")]
)
def test_squeue_is_asked_for_this_job_or_this_task(squeue, more, number):
    calls = squeue("echo 2030-01-02T03:04:05")
    found = shutdown.job_end({"SLURM_JOB_ID": "9", "SLURM_JOB_END_TIME": "nonsense", **more})
    assert datetime.fromtimestamp(found).isoformat() == "2030-01-02T03:04:05"
    assert calls() == ["--noheader", f"--jobs={number}", "--format=%e"]


@pytest.mark.parametrize("script", ["echo N/A", "exit 1", "true", "exec sleep 100", "echo Unknown"])
def test_no_answer_is_no_end(squeue, script, monkeypatch):
    squeue(script)
    monkeypatch.setattr(shutdown, "PATIENCE", 0.3)
    assert shutdown.job_end({"SLURM_JOB_ID": "9"}) is None


def test_no_squeue_is_no_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutdown.job_end({"SLURM_JOB_ID": "9"}) is None
