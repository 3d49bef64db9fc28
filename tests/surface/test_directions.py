"""Direction files that point elsewhere, or claim to be enormous, are refused."""

import h5py
import numpy as np
import pytest
from pointers import POINTERS, SECRET

from landscape_mpi.errors import UserError
from landscape_mpi.surface import read_directions
from landscape_mpi.surface.directions import copy_directions


def copied(path):
    assert copy_directions(path, path.with_name("copy.h5"))


READERS = (lambda path: read_directions(path, axes=2), copied)


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        for axis in ("xdirection", "ydirection"):
            for i in range(2):
                file.create_dataset(f"{axis}/{i}", data=np.ones(3, np.float32)).attrs["name"] = f"weight{i}"
    return tmp_path / "d.h5"


@pytest.mark.parametrize("axis", ["xdirection", "ydirection"])
@pytest.mark.parametrize("pointer", POINTERS, ids=lambda pointer: pointer.__name__)
def test_a_member_that_is_not_data_of_the_file(path, tmp_path, axis, pointer):
    with h5py.File(path, "r+") as file:
        del file[f"{axis}/1"]
        pointer(file[axis], "1", tmp_path)
    for read in READERS:
        with pytest.raises(UserError, match=POINTERS[pointer]):
            read(path)


@pytest.mark.parametrize("kind", ["external", "soft"])
def test_a_group_that_is_a_link(path, tmp_path, kind):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["xdirection/0"] = SECRET
    with h5py.File(path, "r+") as file:
        del file["xdirection"]
        links = {"external": h5py.ExternalLink(str(tmp_path / "other.h5"), "/xdirection"), "soft": "/ydirection"}
        file["xdirection"] = links[kind] if kind == "external" else h5py.SoftLink(links[kind])
    for read in READERS:
        with pytest.raises(UserError, match="has no group `xdirection`"):
            read(path)


def test_many_members_that_claim_more_than_the_file_could_hold(path):
    with h5py.File(path, "r+") as file:
        for i in range(2, 10):
            file.create_dataset(f"xdirection/{i}", (1 << 24,), np.float32, chunks=(1024,))
    for read in READERS:
        with pytest.raises(UserError, match="10 datasets claim 134217734 values; expected at most 67108864"):
            read(path)


def test_a_tensor_that_is_really_there_may_be_larger_than_a_grid(path, monkeypatch):
    """The largest layer of VGG-16 has six times as many weights as the finest grid has points."""
    # here and not in a process of its own, which knows nothing of what is patched
    monkeypatch.setattr("landscape_mpi.surface.directions.isolated", lambda _, read, *arguments: read(*arguments))
    monkeypatch.setattr("landscape_mpi.files.untrusted.MAX_VALUES", 100)
    monkeypatch.setattr("landscape_mpi.files.untrusted.MAX_TOTAL", 100)
    with h5py.File(path, "r+") as file:
        file["xdirection/2"] = np.ones(500, np.float32)
    assert [array.size for _, array in read_directions(path, axes=2).axes[0]] == [3, 3, 500]
    with h5py.File(path, "r+") as file:
        file.create_dataset("xdirection/3", (1 << 20,), np.float32, chunks=(1024,))
    with pytest.raises(UserError, match="claims 1048576 values, expected at most 100"):
        read_directions(path, axes=2)


@pytest.mark.parametrize("name", [np.arange(5), h5py.Empty("f"), "w" * 60_000, b"\xff\x1b[2J"])
def test_a_name_that_is_none(path, name):
    with h5py.File(path, "r+") as file:
        file["xdirection/0"].attrs["name"] = name
    for read in READERS:
        read(path)
    for file in (path, path.with_name("copy.h5")):
        assert len(read_directions(file, axes=2).axes[0][0][0]) <= 1000


def test_what_is_copied_is_what_is_there(path):
    with h5py.File(path, "r+") as file:
        file["xdirection/2"], file["ydirection/2"] = np.float64(0.5), np.arange(6).reshape(3, 2)
    copied(path)
    before, after = (read_directions(file, axes=2) for file in (path, path.with_name("copy.h5")))
    for one, other in zip(before.axes, after.axes, strict=True):
        for (name, values), (same, found) in zip(one, other, strict=True):
            assert name == same
            np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("values", [b"text", h5py.Empty("f")])
def test_a_member_that_is_no_numbers_is_not_copied(path, values):
    with h5py.File(path, "r+") as file:
        file["xdirection/2"] = values
    with pytest.raises(UserError, match="expected numbers"):
        copied(path)
    assert not path.with_name("copy.h5").exists()
