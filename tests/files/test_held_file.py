"""A surface that is removed, moved or replaced while it is written: seen, saved, and said."""

import shutil

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.files.atomic import HeldFile
from landscape_mpi.surface import NewSurface, Record, WholeWriter, create_surface, open_writer


@pytest.fixture
def path(tmp_path):
    create_surface(tmp_path / "out" / "s.h5", NewSurface((np.arange(3.0),), ("train_loss",), ([],), ""))
    return tmp_path / "out" / "s.h5"


def removed(path):
    path.unlink()


def moved(path):
    path.rename(path.with_name("elsewhere.h5"))


def folder_removed(path):
    shutil.rmtree(path.parent)


def folder_moved(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


def replaced(path):
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def linked_to_nothing(path):
    path.unlink()
    path.symlink_to("nothing")


FATES = [removed, moved, folder_removed, folder_moved, replaced, linked_to_nothing]


def finish(path, communicator, meet=lambda: None):
    writer = open_writer(path, communicator, root=True)
    return writer, lambda: writer.finish(meet, complete=False)


def by_root(path):
    writer, end = finish(path, None)
    return writer, lambda: writer.at_root(Record((1,), {"train_loss": 2.0}, 0, 0.1)), end


def by_mpi(path):
    writer, end = finish(path, pytest.importorskip("mpi4py.MPI").COMM_SELF)
    return writer, lambda: writer.at_rank(Record((1,), {"train_loss": 2.0}, 0, 0.1)), end


def whole(path):
    writer = WholeWriter(path)
    results = {"train_loss": np.full(3, 2.0), "seconds": np.ones(3), "rank": np.zeros(3, np.int32)}
    return writer, lambda: writer.write(results, np.array([0, 1, 0], np.uint8)), writer.close


WAYS = [by_root, whole, pytest.param(by_mpi, marks=[pytest.mark.mpi, pytest.mark.hdf5])]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("way", WAYS)
def test_what_was_written_is_saved_under_a_free_name_and_it_is_said(path, way, fate):
    writer, write, end = way(path)
    assert not writer.name_lost
    fate(path)
    assert writer.name_lost
    write()
    there = path.read_bytes() if path.is_file() else None
    saved = path if fate not in (replaced, linked_to_nothing) else path.with_name("s.saved-1.h5")
    with pytest.raises(UserError, match=rf"s.h5: was removed, moved or replaced while .* saved as {saved}:"):
        end()
    with h5py.File(saved) as file:
        assert (file["status"][1], file["train_loss"][1]) == (1, 2.0)
    assert there is None or path.read_bytes() == there


def test_a_file_that_kept_its_name_ends_as_ever(path):
    for way in (by_root, whole):
        writer, write, end = way(path)
        write()
        end()
        assert not writer.name_lost
    assert [*path.parent.iterdir()] == [path]


def test_what_cannot_be_saved_is_said_as_well(path, monkeypatch):
    held = HeldFile(path)
    path.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(UserError, match=r"could not be saved \(No space left on device\)"):
        held.close()
    assert not [*path.parent.iterdir()]
