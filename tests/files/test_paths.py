"""What is wrong with a path, in words; and that no command ends in a traceback, or hangs, on what lies there."""

import os
import socket
from pathlib import Path

import pytest

from landscape_mpi import cli
from landscape_mpi.errors import UserError, from_here
from landscape_mpi.files.paths import (
    FILE,
    FOLDER,
    NOTHING,
    absolute,
    check_folder,
    check_input,
    check_target,
    found,
    is_there,
)
from landscape_mpi.job import SweepJob, TrainJob, read_job
from landscape_mpi.plot.__main__ import main as plot
from landscape_mpi.sweeping.check import check
from support.jobs import tiny_job

LONG = "s" * 300


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def loop(folder):
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    return folder / "one"


def bound(folder):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    return folder / "socket"


STRANGE = {
    "a pipe": (pipe, "found a pipe"),
    "a device": (lambda _: Path("/dev/null"), "found a device"),
    "a socket": (bound, "found a socket"),
    "a folder": (lambda folder: folder, "found a folder"),
    "a loop": (loop, "(Too many levels of symbolic links)"),
    "a long name": (lambda folder: folder / LONG, "(File name too long)"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_file_is_neither_read_nor_written(tmp_path, name):
    make, words = STRANGE[name]
    path = make(tmp_path)
    for refuse in (lambda: check_input(path, "key", "a file"), lambda: check_target(path, "key")):
        with pytest.raises(UserError) as caught:
            refuse()
        assert str(caught.value).startswith("key: ")
        assert words in str(caught.value)


@pytest.mark.parametrize("name", sorted(STRANGE.keys() - {"a folder"}))
def test_what_is_no_folder_is_not_written_into(tmp_path, name):
    make, words = STRANGE[name]
    with pytest.raises(UserError) as caught:
        check_folder(make(tmp_path), "train.output")
    assert words in str(caught.value)
    check_folder(tmp_path, "key")
    check_folder(tmp_path / "none", "key")


def test_what_lies_at_a_path(tmp_path):
    (tmp_path / "file").touch()
    assert found(tmp_path / "file") == FILE
    assert found(tmp_path) == FOLDER
    assert found(tmp_path / "none") == found(tmp_path / "file" / "below") == NOTHING
    assert not is_there(tmp_path / "none")
    with pytest.raises(UserError, match="there is no folder"):
        check_target(tmp_path / "none" / "file")
    with pytest.raises(UserError, match=r"no file .*none; expected a job"):
        check_input(tmp_path / "none", "", "a job")


def test_a_folder_that_one_may_not_enter_is_one_sentence(tmp_path, monkeypatch):
    def refuse(self, **_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)  # root may enter every folder
    for refused in (is_there, lambda path: check_input(path, "", "a file"), check_target):
        with pytest.raises(UserError, match=r"leads nowhere \(Permission denied\)"):
            refused(tmp_path / "secret" / "file")


def test_files_below_the_working_directory_are_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert from_here(f"{tmp_path}/a.h5: 3 of {tmp_path}/b/c.h5") == "a.h5: 3 of b/c.h5"
    assert from_here(f"{tmp_path}x/a /other{tmp_path}/a") == f"{tmp_path}x/a /other{tmp_path}/a"
    assert str(UserError("", f"no file {tmp_path}/a.pt")) == "no file a.pt."


def test_a_job_keeps_its_paths_wherever_the_working_directory_goes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    tiny_job(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = Path("job.yaml").read_text()
    job = read_job(text, Path("job.yaml"), SweepJob)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert job.resolve("net.pt") == tmp_path / "net.pt"
    assert job.path == tmp_path / "job.yaml"


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path, monkeypatch):
    text = tiny_job(tmp_path).read_text()
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="the working directory is gone"):
        read_job(text, Path("job.yaml"), SweepJob)
    with pytest.raises(UserError, match="is not a valid path"):
        absolute("a.pt", Path())


NAMES = {
    "x\0.h5": "with a NUL character in it",
    "~nosuchuser/x.h5": "with the home of ~nosuchuser, whom this machine does not know in it",
}
KEYS = {
    **{key: {} for key in ("model.checkpoint", "data.root", "output.file")},
    **{f"plane.{key}": {"plane": {"kind": "interpolate", "to": "a.pt", "via": "b.pt"}} for key in ("to", "via")},
    "plane.path": {"plane": {"kind": "file", "path": "a.h5"}},
    "plane.trajectory": {"plane": {"kind": "random", "trajectory": "a*"}},
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_file_has_is_refused_with_its_key(tmp_path, key, name):
    job = tiny_job(tmp_path, **KEYS[key], **{key.replace(".", "__"): name})
    with pytest.raises(UserError) as caught:
        read_job(job.read_text(), job, SweepJob)
    assert f"{key}: found {name!r}, {NAMES[name]}" in str(caught.value)


def test_the_folder_of_a_training_too():
    text = 'model: {build: resnet20}\ndata: {build: shapes10}\ntrain: {output: "a\\0b"}\n'
    with pytest.raises(UserError, match=r"train\.output: found"):
        read_job(text, Path("job.yaml"), TrainJob)


@pytest.mark.parametrize("name", ["s.npz", "s.NPZ", "net.pt", "s.csv", "s.safetensors", "job.yaml", "s.png"])
def test_an_output_that_would_be_read_as_something_else_is_refused(tmp_path, name):
    job = tiny_job(tmp_path, output__file=f"out/{name}")
    with pytest.raises(UserError, match=r"output\.file: found '.*' is read as something else|output\.file: found"):
        check(job, "cpu")
    assert not (tmp_path / "out").exists()


def test_an_output_is_no_pattern(tmp_path):
    with pytest.raises(UserError, match=r"output\.file: found 's\*\.h5', a pattern; expected the name of one file"):
        check(tiny_job(tmp_path, output__file="s*.h5"), "cpu")


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("key", ["output.file", "model.checkpoint", "plane.path"])
def test_a_job_that_names_no_file_is_one_sentence(tmp_path, monkeypatch, name, key):
    monkeypatch.chdir(tmp_path)
    path = STRANGE[name][0](tmp_path)
    changes = {key.replace(".", "__"): str(path)}
    changes = {"plane": {"kind": "file", "path": str(path)}} if key == "plane.path" else changes
    with pytest.raises(UserError, match=key):
        check(tiny_job(tmp_path, **changes), "cpu")


@pytest.mark.parametrize("name", STRANGE)
def test_a_command_that_names_no_file_is_one_sentence(tmp_path, capsys, name):
    path = str(STRANGE[name][0](tmp_path))
    lines = [["info", path], ["merge", str(tmp_path / "s.h5"), path], ["export", path, str(tmp_path / "s.csv")]]
    lines += [["check", path], ["init", path]]
    for line in lines:
        with pytest.raises(UserError):
            cli.run(line)
    for line in ([path], [path, "--html", str(tmp_path / "p.html")], [path, "-o", f"{path}.png"]):
        assert plot(line) == 2
        assert capsys.readouterr().err.startswith("landscape-plot: ")
