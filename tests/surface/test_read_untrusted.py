"""Files that point at other files of the machine, or claim to be enormous, are refused."""

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import read_surface
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
