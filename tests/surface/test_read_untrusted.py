"""Files that point at other files of the machine, or claim to be enormous, are refused."""

import h5py
import numpy as np
import pytest
from pointers import POINTERS, external_link

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.status import describe
from plot.made_surfaces import write

ALPHA = np.linspace(-1, 1, 8)


@pytest.fixture
def surface(tmp_path):
    return write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA**2})


def replace(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value


def refused(path, match):
    with pytest.raises(UserError, match=match):
        read_surface(path)


@pytest.mark.parametrize("name", ["train_loss", "status", "xcoordinates", "job"])
def test_external_links(surface, tmp_path, name):
    other = write(tmp_path / "other.h5", ALPHA, None, {"train_loss": ALPHA + 7})
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
    other = write(tmp_path / "other.h5", ALPHA, None, {"train_loss": ALPHA + 7})
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
    path = write(tmp_path / "s.h5", ALPHA, None, {"train_loss": ALPHA**2})
    with h5py.File(path, "r+") as file:
        del file["train_loss"]
        stored = file.create_dataset("train_loss", data=ALPHA, chunks=(8,), compression="gzip", fletcher32=True)
        at = stored.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[at + 5] ^= 255
    path.write_bytes(raw)
    refused(path, "the file is damaged or cannot be read")
