"""Shards that are not what they look like are refused by `merge`, and nothing is written."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from pointers import POINTERS

from landscape_mpi.errors import UserError
from landscape_mpi.job import Axis
from landscape_mpi.surface import NewSurface, Record, create_surface, open_writer, read, read_surface
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import describe
from support.jobs import LINE_JOB as JOB

RESULTS = ("train_loss", "train_loss_stderr")


def shard(path, number, *points):
    """Write shard `number` of two with some points done."""
    fixed = {"seed": 0, "checkpoint_sha256": "c", "data_sha256": "d", "plane_sha256": "p", "shard": f"{number}/2"}
    create_surface(path, NewSurface((Axis(-1, 1, 8).coordinates(),), RESULTS, ([],), JOB, fixed))
    writer = open_writer(path, None, root=True)
    for point in points:
        writer.at_root(Record((point,), dict.fromkeys(RESULTS, float(point)), 0, 0.1))
    writer.finish(lambda: None, complete=False)
    return path


@pytest.fixture
def shards(tmp_path):
    return [shard(tmp_path / "a.h5", 0, 0, 2, 4, 6), shard(tmp_path / "b.h5", 1, 1, 3, 5)]


def refused(folder, shards, match):
    with pytest.raises(UserError, match=match) as caught:
        merge(folder / "whole.h5", shards)
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("*whole.h5*")) or [*folder.glob("*whole.h5*")] == [folder / "whole.h5.lock"]


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_a_point_written_during_a_merge_has_its_values_or_is_not_there_yet(tmp_path, shards, which, monkeypatch):
    """Values lie before the status in the file: a copy byte by byte has the new status and the old values."""
    copyfile, fitting = shutil.copyfile, read._fitting
    writer, here, written = open_writer(shards[which], None, root=True), os.getpid(), []

    def write_point():
        if not written and os.getpid() == here:
            written.append(7)
            writer.at_root(Record((7,), dict.fromkeys(RESULTS, 7.0), 0, 0.1))

    def copy(source, target):
        before = Path(source).read_bytes()
        write_point()
        copyfile(source, target)
        after = Path(source).read_bytes()
        with h5py.File(source, locking=False) as file:
            place = file["train_loss"].id.get_offset() + 8 * 7
        assert before[place : place + 8] != after[place : place + 8]
        torn = after[:place] + before[place : place + 8] + after[place + 8 :]
        Path(target).write_bytes(torn)

    def slow(dataset, shape):
        values = fitting(dataset, shape)
        if dataset.name == "/status" and Path(dataset.file.filename) == shards[1]:
            write_point()
        return values

    if which:
        monkeypatch.setattr(read, "_fitting", slow)
    else:
        monkeypatch.setattr("shutil.copyfile", copy)
    monkeypatch.setattr("landscape_mpi.surface.merge.isolated", lambda _, function, *arguments: function(*arguments))
    merge(tmp_path / "whole.h5", shards)
    with h5py.File(tmp_path / "whole.h5") as file:
        there = file["status"][()] == 1
        assert (file["train_loss"][()][there] == np.arange(8.0)[there]).all()
        assert np.isnan(file["train_loss"][()][~there]).all()
        assert (there.all(), file["complete"][()]) == (not which, not which)
    assert written
    writer.finish(lambda: None, complete=False)
    monkeypatch.undo()
    assert merge(tmp_path / "whole.h5", shards).new == which
    with h5py.File(tmp_path / "whole.h5") as file:
        assert (file["train_loss"][()] == np.arange(8.0)).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("seconds", np.nan), ("seconds", -np.inf), ("rank", -1)])
@pytest.mark.parametrize("which", [0, 1])
def test_a_point_that_nobody_can_have_computed_counts_as_not_done(tmp_path, shards, which, name, value):
    with h5py.File(shards[which], "r+") as file:
        file[name][2 + which] = value
    found = read_surface(shards[which])
    assert (found.unsound, found.status[2 + which]) == (1, 0)
    assert np.isnan(found.metrics["train_loss"][2 + which])
    assert "1 point is marked as done without the numbers" in describe(shards[which])
    merged = merge(tmp_path / "whole.h5", shards)
    assert (merged.new, merged.surface.unsound) == (6, 0)
    assert [str(shards[which]) in note for note in merged.notes] == [True]


def test_a_shard_as_the_target_is_refused_by_name_and_by_content(tmp_path, shards):
    named = shards[0].rename(tmp_path / "s.shard-0-of-2.h5")
    for target in (named, shards[1]):
        before = target.read_bytes()
        with pytest.raises(UserError, match=rf"merge: {target} is a shard, and the first name is that of the surface"):
            merge(target, shards[1:])
        assert target.read_bytes() == before


@pytest.mark.parametrize("which", [0, 1])
def test_shards_of_other_coordinates_are_refused(tmp_path, shards, which):
    with h5py.File(shards[which], "r+") as file:
        file["xcoordinates"][...] = file["xcoordinates"][()][::-1]
    refused(tmp_path, shards, "`xcoordinates` are not those of its job")


def test_sound_shards_are_merged(tmp_path, shards):
    merged = merge(tmp_path / "whole.h5", shards)
    assert merged.new == 7
    np.testing.assert_array_equal(merged.surface.metrics["train_loss"][:7], np.arange(7.0))


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("pointer", POINTERS, ids=lambda pointer: pointer.__name__)
@pytest.mark.parametrize("name", ["train_loss", "seconds"])
def test_a_dataset_that_is_not_data_of_the_file(tmp_path, shards, which, pointer, name):
    with h5py.File(shards[which], "r+") as file:
        del file[name]
        pointer(file, name, tmp_path)
    refused(tmp_path, shards, POINTERS[pointer])


WRONG = {
    "complete": None,
    "finished": np.zeros(2),
    "rounds": np.float64(0),
    "audit": np.zeros(3),
    "seconds": np.zeros(8, ">f8"),
    "rank": np.zeros(8, np.int64),
    "error": np.zeros(8, "S100"),
    "train_loss_stderr": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", WRONG)
def test_a_dataset_that_is_missing_or_of_another_type_or_shape(tmp_path, shards, which, name):
    with h5py.File(shards[which], "r+") as file:
        del file[name]
        if WRONG[name] is not None:
            file[name] = WRONG[name]
    sentence = (
        f"{shards[which]}: audit has 3" if name == "audit" else f"{shards[which]}: `{name}` is .*; expected .*, as"
    )
    refused(tmp_path, shards, sentence)


def test_a_surface_of_another_tool_is_no_shard(tmp_path):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = np.linspace(-1, 1, 8), np.ones(8)
    refused(tmp_path, [tmp_path / "theirs.h5"], "was not written by landscape_mpi")


def test_a_link_in_place_of_a_group_that_a_merge_does_not_read(tmp_path, shards):
    with h5py.File(shards[0], "r+") as file:
        del file["xdirection"]
        file["xdirection"] = h5py.SoftLink("/nowhere")
    refused(tmp_path, shards, "xdirection is a link")
