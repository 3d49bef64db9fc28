"""Files of schema 1, written by version 0.1.0, are read, drawn, exported, merged and gone on with.

`files/` holds complete and half-filled surfaces with their jobs, checkpoints, shards and journals, as that version left
them: `half.h5` and `sampled_half.h5` were stopped by SIGTERM, `sharded` are two shards that nobody has merged.
"""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import landscape_mpi
from landscape_mpi.plot.__main__ import main as plot
from support.launch import launch

FILES = Path(__file__).with_name("files")
TINY = Path(__file__).parents[1] / "support" / "tiny.py"
SURFACES = sorted(path.name for path in FILES.glob("*.h5"))


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    shutil.copy(TINY, tmp_path)
    return tmp_path


def read(path, name):
    with h5py.File(path, locking=False) as file:
        return file[name][()]


@pytest.mark.parametrize("name", SURFACES)
def test_read(name):
    surface = landscape_mpi.open(FILES / name)
    loss = surface.metrics["train_loss"]
    done = read(FILES / name, "status") == 1
    assert done.any()
    assert np.isfinite(loss[done]).all()
    np.testing.assert_array_equal(loss[done], read(FILES / name, "train_loss")[done])


@pytest.mark.slow
@pytest.mark.parametrize("name", SURFACES)
def test_drawn(name, folder, capsys):
    assert plot([str(folder / name), "-o", str(folder / "figure.svg")]) == 0, capsys.readouterr().err
    assert (folder / "figure.svg").stat().st_size > 1000


@pytest.mark.slow
def test_words_and_arrays_of_every_kind_of_surface(folder):
    info = launch("info", folder / "sampled.h5")
    assert info.returncode == 0, info.stderr
    assert "20 of 20" in info.stdout
    assert launch("export", folder / "hessian.h5", folder / "out.npz").returncode == 0
    with np.load(folder / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["max_eig"], read(FILES / "hessian.h5", "max_eig"))
        assert arrays["train_loss"].shape == (3, 3)


@pytest.mark.slow
def test_a_surface_begun_is_gone_on_with(folder):
    before = read(FILES / "half.h5", "train_loss")
    done = read(FILES / "half.h5", "status") == 1
    assert 0 < done.sum() < done.size
    run = launch("sweep", folder / "half.yaml")
    assert run.returncode == 0, run.stderr
    for name in ("train_loss", "test_loss", "train_acc", "train_loss_stderr"):
        np.testing.assert_allclose(read(folder / "half.h5", name), read(FILES / "full.h5", name), rtol=1e-6)
    np.testing.assert_array_equal(read(folder / "half.h5", "train_loss")[done], before[done])
    assert read(folder / "half.h5", "complete")


@pytest.mark.slow
def test_a_sampled_surface_begun_is_gone_on_with_from_its_journals(folder):
    run = launch("sweep", folder / "sampled_half.yaml")
    assert run.returncode == 0, run.stderr
    for name in ("train_loss", "train_loss_bar", "train_images"):
        np.testing.assert_allclose(read(folder / "sampled_half.h5", name), read(FILES / "sampled.h5", name), rtol=1e-6)


@pytest.mark.slow
def test_shards_become_one_surface(folder):
    run = launch("merge", folder / "sharded.h5", *sorted(folder.glob("sharded.shard-*")))
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(
        read(folder / "sharded.h5", "train_loss"), read(FILES / "full.h5", "train_loss"), rtol=1e-6
    )
    assert launch("sweep", folder / "sharded.yaml").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "line", "pca", "hessian", "sampled"])
def test_a_complete_surface_is_found_to_be_of_its_job(folder, name):
    before = (folder / f"{name}.h5").read_bytes()
    run = launch("sweep", folder / f"{name}.yaml")
    assert run.returncode == 0, run.stderr
    assert (folder / f"{name}.h5").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cudnn", "winograd"])
def test_a_surface_of_an_engine_that_is_deleted_is_read_drawn_and_not_gone_on_with(folder, engine, capsys):
    path = folder / "half.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["engine"] = engine
    before, there = path.read_bytes(), sorted(folder.rglob("*"))
    assert landscape_mpi.open(path).attributes["engine"] == engine
    run = launch("sweep", folder / "half.yaml")
    assert run.returncode == 2
    assert run.stderr == (
        f"error: output.file: {path} was begun with the engine {engine}, which this version lacks; expected one "
        "of compiled, fused, eager: finish it with landscape_mpi 0.1.0, or start afresh with --overwrite.\n"
    )
    assert (path.read_bytes(), sorted(folder.rglob("*"))) == (before, there)
    assert plot([str(path), "-o", str(folder / "figure.svg")]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_a_complete_surface_of_an_engine_that_is_deleted_stays_complete(folder):
    with h5py.File(folder / "full.h5", "r+") as file:
        file.attrs["engine"] = "winograd"
    assert launch("sweep", folder / "full.yaml").returncode == 0
