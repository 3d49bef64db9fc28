"""The demo's networks: `shapes10` is hard enough that they differ, and easy enough that five epochs teach them."""

import shutil
from pathlib import Path

import pytest

from landscape_mpi.surface.training import read_history
from support.launch import finish, start

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "demo"


@pytest.mark.slow(50)
def test_the_demos_networks_end_between_60_and_95_percent(tmp_path):
    shutil.copytree(JOBS, tmp_path / "jobs" / "demo")
    names = ("shortcuts", "noshort")
    runs = [start("train", tmp_path / "jobs" / "demo" / f"train_{name}.yaml") for name in names]
    for run in runs:
        ended = finish(run, 900)
        assert ended.returncode == 0, ended.stderr
    histories = [read_history(tmp_path / "demo" / "nets" / name / "history.h5") for name in names]
    assert all(history[0].test_acc < 25 and history[-1].train_loss < history[1].train_loss for history in histories)
    last = [history[-1] for history in histories]
    assert [record.epoch for record in last] == [5, 5]
    assert all(60 < record.test_acc < 95 for record in last)
    assert last[0].test_acc > last[1].test_acc
