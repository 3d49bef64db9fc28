"""What is written reaches the disk whole and in time, refusals are heard, and a file that loses its name is saved."""

import errno
import os
import shutil
import sys

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.files import atomic as durable
from landscape_mpi.files.atomic import Disk, HeldFile, atomic_folder, atomic_write
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface import NewSurface, Record, WholeWriter, create_surface, open_writer
from landscape_mpi.surface.journal import Evaluated, Journal
from support.launch import launch

RECORD = Record((1,), {"train_loss": 2.0}, 0, 0.1)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def handed(monkeypatch):
    """The file behind every call that hands over to the disk."""
    files = []
    monkeypatch.setattr(durable, "HAND_OVER", lambda file: files.append(os.fstat(file).st_ino))
    return files


@pytest.fixture
def surface(tmp_path):
    path = tmp_path / "surface.h5"
    create_surface(path, NewSurface((np.arange(3.0),), ("train_loss",), ([],), ""))
    return path


def test_a_disk_is_asked_at_most_every_30_seconds_and_at_the_end(tmp_path, handed):
    path, clock = tmp_path / "file", Clock()
    path.touch()
    disk = Disk(path, clock)
    counts = []
    for seconds in (0, 10, 29.9, 30, 31, 59, 61, 200):
        clock.now = 100.0 + seconds
        disk.wrote()
        counts.append(len(handed))
    assert counts == [0, 0, 0, 1, 1, 1, 2, 3]
    disk.close()
    assert handed == [path.stat().st_ino] * 4


def of_journal(surface):
    path = surface.parent / "rank-00000.journal"
    journal = Journal(surface.parent, 0, b"i" * 32)
    return path, lambda: journal.add(Evaluated(0, 0, 0, PerExample(np.zeros(3)))), journal.close


def of_whole(surface):
    writer = WholeWriter(surface)
    return surface, lambda: writer.write({}, np.ones(3, np.uint8)), writer.close


def of_root(surface):
    writer = open_writer(surface, None, root=True)
    return surface, lambda: writer.at_root(RECORD), lambda: writer.finish(lambda: None, complete=True)


def of_parallel(surface):
    world = pytest.importorskip("mpi4py.MPI").COMM_SELF
    writer = open_writer(surface, world, root=True)
    return surface, lambda: writer.at_rank(RECORD), lambda: writer.finish(lambda: None, complete=True)


WAYS = [of_journal, of_whole, of_root, pytest.param(of_parallel, marks=[pytest.mark.mpi, pytest.mark.hdf5])]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("every", "times"), [(0.0, [1, 2, 3]), (1e9, [0, 0, 1])])
def test_every_way_of_writing_keeps_the_pace(surface, handed, monkeypatch, way, every, times):
    monkeypatch.setattr(durable, "EVERY", every)
    path, write, close = way(surface)
    handed.clear()
    counts = []
    for step in (write, write, close):
        step()
        counts.append(handed.count(path.stat().st_ino))
    assert counts == times


def refuse(_):
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize("way", WAYS)
def test_a_disk_that_refuses_at_the_end_is_a_sentence(surface, monkeypatch, way):
    """As NFS does; no file system here does so by itself, so the call is replaced."""
    path, write, close = way(surface)
    write()
    monkeypatch.setattr(durable, "HAND_OVER", refuse)
    with pytest.raises(UserError, match=rf"{path}: cannot be written \(Disk quota exceeded\); what it holds by now is"):
        close()
    if path == surface:
        with h5py.File(surface) as file:
            assert file["status"][()].any()


LIMITED = """
import resource, sys
from pathlib import Path
from landscape_mpi.files.hdf5 import OwnFile

file = OwnFile(Path(sys.argv[1]), "r+")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
file.hdf5["train_loss"][...] = 3.0
for step in (file.flush, file.close):
    try:
        step()
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.slow
def test_a_refused_write_is_heard_of_once_hdf5_is_done_and_ends_no_process(surface):
    with h5py.File(surface) as file:
        place = file["train_loss"].id.get_offset()
    before = surface.read_bytes()
    run = launch(surface, place, program=(sys.executable, "-c", LIMITED))
    assert (run.returncode, run.stdout) == (0, "File too large\n" * 2), run.stderr
    assert surface.read_bytes()[place:] == before[place:]
    with h5py.File(surface) as file:
        assert np.isnan(file["train_loss"][()]).all()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("good")
    with pytest.raises(OSError, match="No space"), atomic_write(path) as aside:  # noqa: PT012
        aside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (path.read_text(), names(tmp_path)) == ("good", ["figure.png"])
    with atomic_write(path) as aside:
        assert aside.suffix == ".png"
        aside.write_text("better")
    assert (path.read_text(), names(tmp_path)) == ("better", ["figure.png"])


def test_two_writers_of_one_file_do_not_tear_it(tmp_path):
    path = tmp_path / "x.csv"
    with atomic_write(path) as first:
        first.write_text("one")
        with atomic_write(path) as second:
            second.write_text("two")
        assert (path.read_text(), first.read_text()) == ("two", "one")
    assert (path.read_text(), names(tmp_path)) == ("one", ["x.csv"])


def test_no_link_is_followed_and_nothing_of_others_emptied(tmp_path, monkeypatch):
    """Whoever may create files in the folder could guess the name of the next one."""
    path, precious = tmp_path / "s.h5", tmp_path / "precious"
    precious.write_text("mine")
    tokens = iter(["00000000", "11111111", "22222222"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(tokens))
    (tmp_path / ".s.h5.writing-00000000.h5").symlink_to(precious)
    (tmp_path / ".s.h5.writing-11111111.h5").hardlink_to(precious)
    with atomic_write(path) as aside:
        assert aside.name == ".s.h5.writing-22222222.h5"
    assert precious.read_text() == "mine"


def test_what_a_killed_writer_left_goes_and_what_a_living_one_holds_stays(tmp_path):
    path, left, link = (tmp_path / name for name in ("s.h5", ".s.h5.writing-0123abcd.h5", ".s.h5.writing-89ab0123.h5"))
    left.write_text("half")
    link.symlink_to(tmp_path / "elsewhere")
    other = tmp_path / ".s.h5.writing-notes.txt"
    other.write_text("of somebody else")
    with atomic_write(path) as living:
        assert not left.exists()
        with atomic_write(path):
            pass
        assert living.exists()
    assert names(tmp_path) == sorted([other.name, link.name, "s.h5"])


def test_folders_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path):
    left = tmp_path / ".s.zarr.writing-0123abcd"
    (left / "status" / "c").mkdir(parents=True)
    (left / "status" / "c" / "0").write_text("half")
    with atomic_folder(tmp_path / "s.zarr") as living:
        assert not left.exists()
        (living / "zarr.json").write_text("first")
        with atomic_folder(tmp_path / "s.zarr") as other:
            (other / "zarr.json").write_text("second")
        assert living.exists()
    assert names(tmp_path) == ["s.zarr"]
    assert (tmp_path / "s.zarr" / "zarr.json").read_text() == "first"


def test_a_name_as_long_as_there_may_be(tmp_path):
    path = tmp_path / ("\u00e9" * 126 + ".h5")
    with atomic_write(path) as aside:
        aside.write_text("whole")
    assert path.read_text() == "whole"


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


HOLDERS = [by_root, whole, pytest.param(by_mpi, marks=[pytest.mark.mpi, pytest.mark.hdf5])]


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("way", HOLDERS)
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
