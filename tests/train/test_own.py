"""The example of a network, data and a loss of one's own: trained, swept and drawn by the real commands."""

import os
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from support.launch import launch

JOBS = Path(__file__).resolve().parents[2] / "jobs" / "own"


@pytest.mark.slow
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
    assert loss[10, 10] < 0.02 < 0.1 < np.median(loss)
    drawn = launch(tmp_path / "demo" / "own.h5", program=(sys.executable, "-m", "landscape_mpi.plot"))
    assert drawn.returncode == 0, drawn.stderr


BESIDE = Path(__file__).resolve().parents[1] / "support" / "beside_cpu_torch"
OTHERS = {
    "torchvision_resnet18": ("layer4.*", None),
    "timm_vit": ("blocks.*.attn.*", None),
    "language": ("blocks.*", 2),
}
"""What moves, and on how many ranks the sweep runs; each imports the library anew."""


@pytest.mark.slow(30)
@pytest.mark.mpi
@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_other_libraries_and_a_loss_over_tokens(tmp_path, name):
    shutil.copytree(JOBS, tmp_path / "jobs" / "own")
    job = tmp_path / "jobs" / "own" / f"{name}.yaml"
    values = yaml.safe_load(job.read_text())
    values["data"]["limit"], values["grid"] = 16, {"alpha": [-1, 1, 3], "beta": [-1, 1, 3]}
    values["output"]["directions"] = True
    job.write_text(yaml.safe_dump(values))
    path = os.pathsep.join([str(BESIDE), os.environ.get("PYTHONPATH", "")])
    only, ranks_of_sweep = OTHERS[name]
    for command, ranks in (("train", None), ("sweep", ranks_of_sweep)):
        run = launch(command, job, ranks=ranks, env={"PYTHONPATH": path}, timeout=600)
        assert run.returncode == 0, run.stderr
    with h5py.File(tmp_path / "demo" / f"{name}.h5") as file:
        moved = {group.attrs["name"]: group[()].any() for group in file["xdirection"].values()}
        losses = file["train_loss"][()]
    expected = {parameter: fnmatch(parameter, only) for parameter in moved}
    # tensors of one dimension stay as well
    assert {parameter for parameter, moves in moved.items() if moves} < {p for p, may in expected.items() if may}
    assert any(moved.values())
    assert np.isfinite(losses).all()
    assert losses.std() > 0
