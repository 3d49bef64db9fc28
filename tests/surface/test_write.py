"""The surface file: its schema, its creation in one piece, its lock."""

import errno
import multiprocessing
import os

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.metrics import registry
from landscape_mpi.metrics.base import Result
from landscape_mpi.metrics.registry import asked, result_names
from landscape_mpi.surface import NewSurface, Record, Rows, create_surface, lock_surface, open_writer
from landscape_mpi.surface.status import describe
from support.launch import launch

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
NEW = NewSurface(
    axes=(np.linspace(-1, 1, 5), np.linspace(0, 1, 3)),
    results=result_names(["train", "test"], asked(["loss", "accuracy"])),
    directions=(
        [Rows("a.weight", (2, 3), [WEIGHT]), Rows("b", (2,), [np.zeros(2, np.float32)])],
        [Rows("a.weight", (2, 3), [-WEIGHT[:1], -WEIGHT[1:]]), Rows("b", (2,), [np.ones(2, np.float32)])],
    ),
    job="model: {build: größe}\n",
    attributes={"seed": 3, "cosine": 0.25, "dtype": "float32"},
)


@pytest.fixture
def path(tmp_path):
    create_surface(tmp_path / "deep" / "surface.h5", NEW)
    return tmp_path / "deep" / "surface.h5"


def test_everything_of_the_schema_is_there_before_the_first_result(path):
    with h5py.File(path) as file:
        for name in NEW.results:
            assert file[name].shape == (3, 5)
            assert np.isnan(file[name][()]).all()
            assert [dim[0].name for dim in file[name].dims] == ["/ycoordinates", "/xcoordinates"]
        assert set(NEW.results) >= {"train_loss", "train_acc", "test_loss_stderr", "test_acc_stderr"}
        assert file["status"].dtype == np.uint8
        assert not file["status"][()].any()
        assert (file["rank"][()] == -1).all()
        assert file["error"].dtype == "S200"
        assert (file["complete"][()], file["audit"].shape) == (0, (6,))
        assert {"rounds", "finished", "seconds"} <= set(file)
        assert file["job"].asstr()[()] == NEW.job
        assert [file[f"xdirection/{i}"].attrs["name"] for i in range(2)] == ["a.weight", "b"]
        assert (file["ydirection/0"][()] == -WEIGHT).all()
        attributes = dict(file.attrs)
        assert len(attributes.pop("directions_sha256")) == 64
        assert attributes == {"schema": 2, "seed": 3, "cosine": 0.25, "dtype": "float32"}


def test_every_result_dataset_has_its_place_in_the_file(path):
    with h5py.File(path) as file:
        for name in (*NEW.results, "status", "complete", "seconds", "rank", "error", "audit", "rounds", "finished"):
            assert file[name].chunks is None
            assert file[name].id.get_offset() is not None, name


def test_a_result_of_several_numbers_a_point_has_axes_of_its_own(tmp_path, monkeypatch):
    known = {**registry._OF_POINTS, "ladder": Result("ladder", "ladder", axes=("rungs", "steps"))}
    monkeypatch.setattr(registry, "_OF_POINTS", known)
    path, numbers = tmp_path / "s.h5", np.arange(8.0).reshape(2, 4)
    within = {"rungs": 2, "steps": 4}
    create_surface(path, NewSurface(NEW.axes, ("train_loss", "ladder"), ([], []), "job", {}, within=within))
    writer = open_writer(path, None, root=True)
    writer.at_root(Record((1, 2), {"train_loss": 0.5, "ladder": numbers}, 0, 0.1))
    writer.finish(lambda: None, complete=False)
    with h5py.File(path) as file:
        assert [axis[0].name for axis in file["ladder"].dims] == ["/ycoordinates", "/xcoordinates", "/rungs", "/steps"]
        assert file["steps"][()].tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(file["ladder"][1, 2], numbers)
        assert np.isnan(file["ladder"][()]).sum() == 14 * 8
        assert file["train_loss"][1, 2] == 0.5


def test_a_line_has_no_ycoordinates(tmp_path):
    line = NewSurface(NEW.axes[:1], NEW.results, NEW.directions[:1], "", {})
    create_surface(tmp_path / "line.h5", line)
    with h5py.File(tmp_path / "line.h5") as file:
        assert file["train_loss"].shape == (5,)
        assert "ycoordinates" not in file
        assert "ydirection" not in file


def test_a_left_over_of_a_killed_creation_is_replaced(tmp_path):
    left = tmp_path / ".surface.h5.writing-00ff00ff.h5"
    left.write_bytes(b"half a file")
    create_surface(tmp_path / "surface.h5", NEW)
    assert h5py.is_hdf5(tmp_path / "surface.h5")
    assert not left.exists()


def test_a_record_lands_at_its_index_and_nowhere_else(path):
    writer = open_writer(path, None, root=True)
    values = {name: float(i) for i, name in enumerate(NEW.results)}
    writer.at_rank(Record((2, 4), values, rank=7, seconds=0.5))
    with h5py.File(path, locking=False) as file:
        assert not file["status"][()].any()
    writer.at_root(Record((2, 4), values, rank=7, seconds=0.5))
    writer.finish(lambda: None, complete=False)
    with h5py.File(path) as file:
        assert np.argwhere(file["status"][()]).tolist() == [[2, 4]]
        for name, value in values.items():
            assert file[name][2, 4] == value
            assert np.isfinite(file[name][()]).sum() == 1
        assert (file["rank"][2, 4], file["seconds"][2, 4], file["complete"][()]) == (7, 0.5, 0)


def hold(path, ready, free):
    with lock_surface(path):
        ready.set()
        free.wait(30)


@pytest.mark.slow
def test_a_second_sweep_is_refused_while_the_first_one_lives(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, free = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(tmp_path / "s.h5", ready, free))
    holder.start()
    assert ready.wait(30)
    with (
        pytest.raises(UserError, match=f"process {holder.pid} on .* is sweeping"),
        lock_surface(tmp_path / "s.h5", 0.3),
    ):
        pass
    holder.kill()
    holder.join()
    with lock_surface(tmp_path / "s.h5", 5):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.lockf", lockf)
    with (
        pytest.raises(UserError, match=r"lock: cannot be written \(No locks available\); expected a file system with"),
        lock_surface(tmp_path / "s.h5"),
    ):
        pass


def test_info_says_what_is_there(path):
    writer = open_writer(path, None, root=True)
    writer.at_root(Record((0, 0), dict.fromkeys(NEW.results, 2.5), rank=1, seconds=0.5))
    writer.finish(lambda: None, complete=False)
    text = describe(path)
    for part in ("plane of 3 x 5 points", "1 of 15 done (incomplete: 14 to do)", "train_loss", "1: 1", "größe"):
        assert part in text
    run = launch("info", path)
    assert (run.returncode, run.stdout) == (0, text)


def test_plain_hdf5_tools_read_it(path):
    run = launch("-H", path, program=("h5dump",)) if __import__("shutil").which("h5dump") else None
    if run is None:
        pytest.skip("h5dump is not installed")
    assert run.returncode == 0


def test_a_lock_that_is_a_link_is_refused_and_what_it_points_at_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "s.h5.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"s\.h5\.lock: cannot be written"), lock_surface(tmp_path / "s.h5"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("text", ["[[package]] name = torch\n", "process 7 on node3\nand notes\n", "x" * 1000])
def test_a_file_that_is_no_lock_of_ours_is_refused_and_left_alone(tmp_path, text):
    """`output.file: poetry` would lock poetry.lock."""
    (tmp_path / "poetry.lock").write_text(text)
    with (
        pytest.raises(UserError, match=r"poetry\.lock: is not a lock file of landscape_mpi"),
        lock_surface(tmp_path / "poetry"),
    ):
        pass
    assert (tmp_path / "poetry.lock").read_text() == text


def test_a_lock_that_is_another_name_of_a_file_is_never_written(tmp_path):
    for name, text in (("empty", ""), ("precious", "mine")):
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.h5.lock").hardlink_to(tmp_path / name)
    with lock_surface(tmp_path / "empty.h5"):
        pass
    with pytest.raises(UserError, match="is not a lock file of landscape_mpi"), lock_surface(tmp_path / "precious.h5"):
        pass
    assert [(tmp_path / name).read_text() for name in ("empty", "precious")] == ["", "mine"]


def test_a_lock_that_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "s.h5.lock")
    with pytest.raises(UserError, match=r"s\.h5\.lock"), lock_surface(tmp_path / "s.h5"):
        pass


def test_a_lock_of_a_dead_sweep_is_taken_over(tmp_path):
    (tmp_path / "s.h5.lock").write_text("process 4711 on node3\n")
    with lock_surface(tmp_path / "s.h5"):
        assert (tmp_path / "s.h5.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_only_a_surface_of_ours_is_replaced(tmp_path, path):
    (tmp_path / "net.pt").write_bytes(b"PK\3\4 the only checkpoint")
    (tmp_path / "link.h5").symlink_to(tmp_path / "net.pt")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["status"], file["job"] = [1], "of somebody else"
    for name in ("net.pt", "link.h5", "other.h5"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(UserError, match=f"output.file: .*{name} is no surface of landscape_mpi"):
            create_surface(tmp_path / name, NEW)
        assert (tmp_path / name).read_bytes() == before
    (tmp_path / "empty.h5").touch()
    for replaced in (path, tmp_path / "empty.h5"):
        create_surface(replaced, NEW)
        assert h5py.is_hdf5(replaced)


def test_a_surface_has_one_lock_whatever_link_leads_to_it(tmp_path, path):
    (tmp_path / "link.h5").symlink_to(path)
    with lock_surface(tmp_path / "link.h5"):
        assert path.with_name("surface.h5.lock").exists()
    assert not (tmp_path / "link.h5.lock").exists()
