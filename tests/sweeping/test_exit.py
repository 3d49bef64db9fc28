"""The user's own code ends the program: never with exit code 0 and no surface, and no rank waits for others."""

import pytest

from support.jobs import tiny_job, write_job
from support.launch import launch

OWN = """
import os, sys, time
from multiprocessing import Pool
import torch
import tiny

CALLS = 0
HOW = {
    "sys.exit": lambda: sys.exit(0),
    "os._exit": lambda: os._exit(0),
    "ctrl-c": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
}

def leave(where, after=0):
    global CALLS
    CALLS += 1
    if os.environ.get("WHERE") == where and tiny.rank() == int(os.environ.get("ON", "0")) and CALLS > after:
        HOW[os.environ["HOW"]]()

def network():
    leave("build")
    return tiny.network()

def data(root, split):
    leave("data")
    return tiny.data(root, split)

def pooled(root, split):
    with Pool(2) as pool:
        pool.map(abs, range(10))
    return tiny.data(root, split)

def loss(outputs, targets):
    leave("loss", 20)
    return tiny.cross_entropy(outputs, targets)

leave("import")
"""
MINE = {"model__build": "own:network", "data__build": "own:data", "loss": "own:loss"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("where", ["import", "build", "data", "loss"])
def test_an_exit_is_one_sentence_and_exit_code_2(folder, where):
    run = launch("sweep", tiny_job(folder, **MINE), "--quiet", env={"WHERE": where, "HOW": "sys.exit"})
    assert run.returncode == 2
    assert "failed with SystemExit: 0 (own.py, line " in run.stderr
    assert run.stderr.count("error: ") == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", ["sweep", "check", "train"])
def test_an_end_of_the_process_is_no_success(folder, command):
    job = tiny_job(folder, **MINE)
    if command == "train":
        job = write_job(
            folder / "train.yaml",
            {
                "model": {"build": "own:network"},
                "data": {"build": "own:data"},
                "train": {"output": "nets", "epochs": 1, "optimizer": "sgd", "lr": 0.1, "batch": 8, "augment": False},
            },
        )
    run = launch(command, job, env={"WHERE": "data", "HOW": "os._exit"})
    assert run.returncode == 1
    assert "error: rank 0 on " in run.stderr
    assert "died (it ended itself with exit code 0, as os._exit does)" in run.stderr


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "where", "code"),
    [("sys.exit", "loss", 2), ("ctrl-c", "build", 2), ("os._exit", "loss", 1), ("os._exit", "data", 1)],
)
def test_no_rank_waits_for_one_that_has_ended(folder, how, where, code):
    # the others are slow, so that the rank that is to end is given points before all are done
    slow = {"TINY_RANK": "1", "TINY_OTHERS": "0.05"}
    ends = {"WHERE": where, "HOW": how, "ON": "0" if where == "data" else "1"}
    run = launch("sweep", tiny_job(folder, **MINE), "--quiet", ranks=3, env=slow | ends)
    assert run.returncode == code, run.stderr
    assert run.stderr.count("error: ") == 1


@pytest.mark.slow
def test_a_pool_of_processes_in_the_data_set_ends(folder):
    run = launch("sweep", tiny_job(folder, **MINE | {"data__build": "own:pooled"}), "--quiet")
    assert run.returncode == 0, run.stderr
