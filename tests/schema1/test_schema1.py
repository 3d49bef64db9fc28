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
from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main as plot
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content
from landscape_mpi.surface.export import export
from landscape_mpi.surface.identity import check_whole, job_of
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.read import read_surface
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


def is_of_schema_1(path):
    """Whether a file has the schema and the names of schema 1, and none of a later one."""
    with h5py.File(path, locking=False) as file:
        counts = {name for name in file if name.endswith(("_images", "_examples"))}
        return file.attrs["schema"] == 1 and counts <= {"train_images", "test_images"}


def as_schema_2(source, target):
    """Write a sampled surface of schema 1 as schema 2 has it."""
    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        file.move("train_images", "train_examples")
        file.attrs["schema"] = 2


def check_that_it_is(path, whole):
    """The losses are those that version 0.1.0 gave; where they are estimates, within the bars of both.

    Audited points tell something about the others since then.
    """
    bars = 0.0
    if "sampled" in path.name:
        bars = read(path, "train_loss_bar") + read(whole, "train_loss_bar")
        assert (bars == 0).any()
    there, expected = read(path, "train_loss"), read(whole, "train_loss")
    assert (abs(there - expected) <= 1e-6 * abs(expected) + bars).all()


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
    assert is_of_schema_1(folder / "half.h5")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["half", "sampled_half"])
def test_a_surface_begun_is_gone_on_with_along_its_own_directions_with_streamed_weights(folder, name):
    job = folder / f"{name}.yaml"
    job.write_text(job.read_text() + "evaluate: {weights: streamed}\n")
    run = launch("sweep", job, ranks=2)
    assert run.returncode == 0, run.stderr
    check_that_it_is(folder / f"{name}.h5", FILES / {"half": "full.h5", "sampled_half": "sampled.h5"}[name])


@pytest.mark.slow
def test_a_sampled_surface_begun_is_gone_on_with_from_its_journals(folder):
    run = launch("sweep", folder / "sampled_half.yaml")
    assert run.returncode == 0, run.stderr
    check_that_it_is(folder / "sampled_half.h5", FILES / "sampled.h5")
    counts = read(FILES / "sampled.h5", "train_images")
    np.testing.assert_array_equal(read(folder / "sampled_half.h5", "train_images"), counts)
    assert is_of_schema_1(folder / "sampled_half.h5")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_images", "train_examples"])
def test_the_number_of_examples_is_drawn_by_either_name(name, folder, capsys):
    as_schema_2(folder / "sampled.h5", folder / "new.h5")
    figures = []
    for surface in ("sampled.h5", "new.h5"):
        field = field_of(read_surface(folder / surface), name)
        np.testing.assert_array_equal(field.values, read(FILES / "sampled.h5", "train_images"))
        figures.append(field.quantity)
    assert figures[0] == figures[1]
    assert figures[0].label == "training examples used"
    both = [str(folder / "sampled.h5"), str(folder / "new.h5")]
    assert plot([*both, "--metric", name, "-o", str(folder / "figure.svg")]) == 0, capsys.readouterr().err
    assert plot([*both, "--metric", name, "--html", str(folder / "page.html")]) == 0, capsys.readouterr().err


def test_surfaces_of_both_schemas_offer_one_number_of_examples_on_a_page(folder):
    as_schema_2(folder / "sampled.h5", folder / "new.h5")
    surfaces = [read_surface(folder / name) for name in ("sampled.h5", "new.h5")]
    found = content(surfaces, Options(metric="train_images"))
    assert found["start"]["metric"] == "train_examples"
    assert "train_examples" in [metric["name"] for metric in found["metrics"]]
    counts = [surface["values"]["train_examples"] for surface in found["surfaces"]]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("schema", [1, 2])
def test_shards_of_both_schemas_become_a_surface_of_that_of_the_first(folder, schema):
    old, new = folder / "sampled.h5", folder / "new.h5"
    as_schema_2(old, new)
    for path, lacks in ((old, np.s_[:, 2:]), (new, np.s_[:, :2])):
        with h5py.File(path, "r+") as file:
            file["status"][lacks] = 0
            file["complete"][()] = 0
    first, second = (old, new) if schema == 1 else (new, old)
    whole = merge(first, [second]).surface
    assert whole.filled
    name = {1: "train_images", 2: "train_examples"}[schema]
    np.testing.assert_array_equal(whole.metrics[name], read(FILES / "sampled.h5", "train_images"))
    assert is_of_schema_1(first) == (schema == 1)


def test_a_sampled_surface_is_exported_with_the_names_that_it_has(folder):
    export(folder / "sampled.h5", folder / "out.npz")
    with np.load(folder / "out.npz") as arrays:
        np.testing.assert_array_equal(arrays["train_images"], read(FILES / "sampled.h5", "train_images"))
        assert "train_examples" not in arrays


def test_a_number_of_examples_that_is_missing_is_called_as_in_its_file(folder):
    with h5py.File(folder / "sampled_half.h5", "r+") as file:
        del file["train_images"]
    surface = read_surface(folder / "sampled_half.h5")
    with pytest.raises(UserError, match="`train_images` is missing"):
        check_whole(surface, job_of(surface).values)


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


def files_of(folder):
    """The files of a folder, without what Python compiles of the modules in it."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["cudnn", "winograd"])
def test_a_surface_of_an_engine_that_is_deleted_is_read_drawn_and_not_gone_on_with(folder, engine, capsys):
    path = folder / "half.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["engine"] = engine
    before, there = path.read_bytes(), files_of(folder)
    assert landscape_mpi.open(path).attributes["engine"] == engine
    run = launch("sweep", folder / "half.yaml")
    assert run.returncode == 2
    assert run.stderr == (
        f"error: output.file: {path} was begun with the engine {engine}, which this version lacks; expected one "
        "of compiled, fused, eager: finish it with landscape_mpi 0.1.0, or start afresh with --overwrite.\n"
    )
    assert (path.read_bytes(), files_of(folder)) == (before, there)
    assert plot([str(path), "-o", str(folder / "figure.svg")]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_a_complete_surface_of_an_engine_that_is_deleted_stays_complete(folder):
    with h5py.File(folder / "full.h5", "r+") as file:
        file.attrs["engine"] = "winograd"
    assert launch("sweep", folder / "full.yaml").returncode == 0
