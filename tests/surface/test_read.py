"""What is read from a surface file, and what is refused: pointers at other files of the machine, enormous claims."""

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pointers import POINTERS, external_link

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.status import describe
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


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([32, 3, 1.5, 1], r"worst \|error\| / bar 1\.50$"),
        ([32, 3, 1.5, 1, 0.7], r"largest \|error\| 0\.70 of the target$"),
        ([32, 1, 1.5, 1, 0.7, 1], r"of the target; no bar of the loss had to be widened$"),
        ([32, 3, 1.5, 1, 0.7, 1.31], r"of the target; the bars of the loss were then made up to 1\.31 times as wide, "),
    ],
)
def test_an_audit_is_told_as_far_as_its_file_holds_it(tmp_path, numbers, words):
    path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA})
    with h5py.File(path, "r+") as file:
        file.pop("audit", None)
        file["audit"] = np.array(numbers, np.float64)
    assert re.search(words, read_surface(path).audit.words)


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


@pytest.mark.slow
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


EIGHT = np.linspace(-1, 1, 8)


@pytest.fixture
def surface(tmp_path):
    return write(tmp_path / "s.h5", EIGHT, None, {"train_loss": EIGHT**2})


def replace(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value


def refused(path, match):
    with pytest.raises(UserError, match=match):
        read_surface(path)


@pytest.mark.parametrize("name", ["train_loss", "status", "xcoordinates", "job"])
def test_external_links(surface, tmp_path, name):
    other = write(tmp_path / "other.h5", EIGHT, None, {"train_loss": EIGHT + 7})
    replace(surface, name, h5py.ExternalLink(str(other), f"/{name}"))
    refused(surface, rf"{name} is a link; only data stored in the file itself is read")


def test_soft_links(surface):
    replace(surface, "train_loss", h5py.SoftLink("/seconds"))
    refused(surface, "train_loss is a link")


@pytest.mark.parametrize("name", ["train_loss", "xcoordinates"])
def test_external_raw_storage(surface, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(8.0).tobytes())
    with h5py.File(surface, "r+") as file:
        del file[name]
        file.create_dataset(name, (8,), np.float64, external=[(str(secret), 0, 64)])
    refused(surface, f"{name} keeps its values in another file")


def test_virtual_datasets(surface, tmp_path):
    other = write(tmp_path / "other.h5", EIGHT, None, {"train_loss": EIGHT + 7})
    layout = h5py.VirtualLayout((8,), np.float64)
    layout[:] = h5py.VirtualSource(str(other), "train_loss", (8,))
    with h5py.File(surface, "r+") as file:
        del file["train_loss"]
        file.create_virtual_dataset("train_loss", layout)
    refused(surface, "train_loss keeps its values in another file")


def test_a_dataset_that_claims_terabytes(surface):
    with h5py.File(surface, "r+") as file:
        del file["xcoordinates"]
        file.create_dataset("xcoordinates", (1 << 40,), np.float64, chunks=(1024,))
    refused(surface, "xcoordinates claims 1099511627776 values")


def test_text_where_numbers_are_expected(surface):
    replace(surface, "xcoordinates", np.array([b"a"] * 8))
    refused(surface, r"xcoordinates holds \|S1, expected numbers")


def test_a_job_that_is_no_text_is_no_job(surface):
    replace(surface, "job", np.arange(3))
    assert read_surface(surface).job is None


@pytest.mark.parametrize("name", ["job", "status", "complete", "audit", "train_loss", "ycoordinates"])
@pytest.mark.parametrize("pointer", POINTERS, ids=lambda pointer: pointer.__name__)
def test_no_dataset_may_be_anything_else_than_data_of_the_file(surface, tmp_path, name, pointer):
    with h5py.File(surface, "r+") as file:
        file.pop(name, None)
        pointer(file, name, tmp_path)
    refused(surface, POINTERS[pointer])


def test_a_dataset_that_nobody_asked_for_may_not_either(surface, tmp_path):
    with h5py.File(surface, "r+") as file:
        external_link(file, "notes", tmp_path)
    refused(surface, "notes is a link")


def test_many_results_that_claim_more_than_the_file_could_hold(surface):
    with h5py.File(surface, "r+") as file:
        for i in range(5):
            file.create_dataset(f"{i}_loss", (1 << 24,), np.float64, chunks=(1024,), compression="gzip")
    refused(surface, "datasets claim .* values; expected at most 67108864")


def test_a_grid_that_only_its_coordinates_hold(tmp_path):
    """Of another tool's file the status is made up: a few bytes of compressed ramps ask for terabytes of it."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        for name in ("xcoordinates", "ycoordinates"):
            file.create_dataset(name, data=np.arange(1 << 20), chunks=(1 << 16,), compression="gzip", shuffle=True)
        file["train_loss"] = np.ones(3)
    refused(tmp_path / "s.h5", r"a grid of \(1048576, 1048576\) points; expected at most 16777216")


def test_texts_without_an_end(surface):
    with h5py.File(surface, "r+") as file:
        del file["job"]
        kind = h5py.h5t.C_S1.copy()
        kind.set_size((1 << 31) - 1)
        h5py.h5d.create(file.id, b"job", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    refused(surface, "job is longer than 1048576 bytes; expected a page")
    replace(surface, "job", "a: 1\n" * 300_000)
    refused(surface, "job is longer than 1048576 bytes; expected a page")


def test_an_attribute_without_an_end(surface):
    with h5py.File(surface, "r+") as file:
        file.attrs["device"] = "x" * (1 << 21)
    refused(surface, "the attribute device is longer than 1048576 bytes; expected a line")


def test_attributes_that_are_no_text_and_no_number_are_left_out(surface):
    with h5py.File(surface, "r+") as file:
        file.attrs["seed"] = np.arange(4)
        file.attrs["device"] = h5py.Empty("f")
        file.attrs["git"] = file["train_loss"].ref
        file.attrs["batch"] = np.int32(8)
    assert read_surface(surface).attributes == {"schema": 2, "batch": 8}
    assert "8" in describe(surface)


def test_what_a_terminal_would_obey_is_shown_as_escapes(surface):
    with h5py.File(surface, "r+") as file:
        file.attrs["device"] = "cpu\x1b[2J\x07"
        file["\x1b[31m_loss"] = np.ones(8)
        file["\x1b\n"] = h5py.SoftLink("/")
    with pytest.raises(UserError, match="is a link") as caught:
        read_surface(surface)
    assert str(caught.value).isprintable()
    with h5py.File(surface, "r+") as file:
        del file["\x1b\n"]
    replace(surface, "job", "\x1b]0;title\x07")
    words = describe(surface)
    assert "cpu\\x1b[2J\\x07" in words
    assert "\\x1b[31m_loss" in words
    assert "\\x1b]0;title\\x07" in words
    assert all(c.isprintable() or c == "\n" for c in words)


def test_damage_inside_compressed_values(tmp_path):
    path = write(tmp_path / "s.h5", EIGHT, None, {"train_loss": EIGHT**2})
    with h5py.File(path, "r+") as file:
        del file["train_loss"]
        stored = file.create_dataset("train_loss", data=EIGHT, chunks=(8,), compression="gzip", fletcher32=True)
        at = stored.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[at + 5] ^= 255
    path.write_bytes(raw)
    refused(path, "the file is damaged or cannot be read")
