"""What is read from a surface file of our own schema."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import read_surface
from plot.made_surfaces import JOB, bowl, write

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)


def test_a_rectangular_plane_comes_back_as_it_was_written(tmp_path):
    loss = bowl(ALPHA, BETA)
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": loss, "test_acc": 100 - loss})
    surface = read_surface(path)
    assert surface.shape == (7, 9)
    assert surface.metrics["train_loss"][2, 5] == loss[2, 5]
    np.testing.assert_array_equal(surface.metrics["train_loss"], loss)
    np.testing.assert_array_equal(surface.metrics["test_acc"], 100 - loss)
    np.testing.assert_array_equal(surface.alpha, ALPHA)
    np.testing.assert_array_equal(surface.beta, BETA)
    assert (surface.done, surface.failed, surface.points, surface.complete) == (63, 0, 63, True)


def test_a_line_has_no_beta(tmp_path):
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA**2}))
    assert surface.is_line
    assert surface.beta is None
    assert surface.shape == (9,)


def test_job_and_attributes_are_kept(tmp_path):
    job = JOB + "# mit Umlaut: ä\n"
    attributes = {"created": "today", "cosine": 0.01, "batch": 128}
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, None, {"a_loss": ALPHA}, job=job, attributes=attributes))
    assert surface.job == job
    assert {**attributes, "schema": 2}.items() <= surface.attributes.items()
    assert type(surface.attributes["batch"]) is int


def test_bookkeeping_is_no_metric(tmp_path):
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA, "train_examples": ALPHA}))
    assert set(surface.metrics) == {"train_loss", "train_examples"}


def test_a_line_of_four_points_does_not_take_the_audit_for_a_metric(tmp_path):
    surface = read_surface(write(tmp_path / "s.h5", ALPHA[:4], None, {"train_loss": ALPHA[:4]}))
    assert set(surface.metrics) == {"train_loss"}


@pytest.mark.slow
@given(arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2])))
def test_what_is_done_is_decided_by_status_alone(tmp_path_factory, status):
    values = np.where(np.arange(63).reshape(7, 9) % 5 == 0, -1.0, bowl(ALPHA, BETA))
    path = tmp_path_factory.mktemp("s") / "s.h5"
    surface = read_surface(write(path, ALPHA, BETA, {"train_loss": values}, status=status))
    np.testing.assert_array_equal(surface.metrics["train_loss"], np.where(status == 1, values, np.nan))
    assert surface.done == np.sum(status == 1)
    assert surface.failed == np.sum(status == 2)
    assert surface.complete == bool(np.all(status == 1))


def test_nan_and_inf_are_results(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -1.0, 1, 2, 3, 4])
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, None, {"train_loss": values}))
    np.testing.assert_array_equal(surface.metrics["train_loss"], values)
    assert surface.complete


@pytest.mark.parametrize(("name", "value"), [("train_acc", np.nan), ("train_examples", 0.0)])
def test_what_cannot_have_been_computed_is_not_done(tmp_path, name, value):
    metrics = {"train_loss": ALPHA.copy(), name: np.full(9, 50.0)}
    metrics[name][3] = value
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, None, metrics))
    assert (surface.unsound, surface.done, surface.status[3]) == (1, 8, 0)
    assert np.isnan(surface.metrics["train_loss"][3])
    assert not surface.complete


@pytest.mark.parametrize("schema", [3, 0, "1"])
def test_a_schema_that_this_version_does_not_know(tmp_path, schema):
    path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA}, attributes={"schema": schema})
    with pytest.raises(UserError, match=f"s.h5: is of schema {schema}, and this version of landscape_mpi reads 1 to 2"):
        read_surface(path)


def test_a_file_that_is_being_written_can_be_read(tmp_path):
    path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA})
    writing = (
        "import sys, h5py; file = h5py.File(sys.argv[1], 'r+'); file['status'][0] = 0; file.flush();"
        "print('written', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", writing, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "written\n"
        assert read_surface(path).done == 8
        writer.stdin.close()


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.h5: expected a surface file, found no such file"):
        read_surface(tmp_path / "nowhere.h5")


def test_a_folder(tmp_path):
    with pytest.raises(UserError, match="found a folder"):
        read_surface(tmp_path)


def test_a_file_that_is_not_hdf5(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    with pytest.raises(UserError, match=r"job\.yaml: expected a surface file, found a file that is not HDF5"):
        read_surface(path)


def test_a_truncated_file(tmp_path):
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"s\.h5: the file is damaged or cannot be read"):
        read_surface(path)


@pytest.mark.parametrize("missing", ["xcoordinates", "status", "train_loss"])
def test_an_hdf5_file_that_is_no_surface(tmp_path, missing):
    path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA})
    with h5py.File(path, "r+") as file:
        del file[missing]
    with pytest.raises(UserError, match=r"s\.h5: expected a surface, found no"):
        read_surface(path)


@pytest.mark.parametrize("name", ["train_loss", "status"])
def test_shapes_that_do_not_fit(tmp_path, name):
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = np.ones((9, 7))
    with pytest.raises(UserError, match=rf"{name} has shape \(9, 7\).*expected \(7, 9\)"):
        read_surface(path)


@pytest.mark.parametrize("axis", [[0.0, 1.0, 1.0], [0.0, np.nan, 1.0], [0.0, 2.0, 1.0], []])
def test_coordinates_that_are_no_axis(tmp_path, axis):
    path = write(tmp_path / "s.h5", np.array(axis), None, {"train_loss": np.zeros(len(axis))})
    with pytest.raises(UserError, match="xcoordinates is not a row of finite numbers"):
        read_surface(path)
