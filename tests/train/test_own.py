"""The example of a network, data and a loss of one's own: trained, swept and drawn by the real commands."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

from support.launch import launch

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "own"


def test_the_example_learns_and_its_minimum_is_at_the_centre(tmp_path):
    shutil.copytree(JOBS, tmp_path / "jobs" / "own")
    job = tmp_path / "jobs" / "own" / "job.yaml"
    for command in ("train", "sweep"):
        run = launch(command, job)
        assert run.returncode == 0, run.stderr
    with h5py.File(tmp_path / "demo" / "own.h5") as file:
        loss = file["test_loss"][()]
        assert "train_acc" not in file
    assert np.unravel_index(loss.argmin(), loss.shape) == (10, 10)
    assert loss[10, 10] < 0.02 < 0.2 < np.median(loss)
    drawn = launch(tmp_path / "demo" / "own.h5", program=(sys.executable, "-m", "landscape_mpi.plot"))
    assert drawn.returncode == 0, drawn.stderr
