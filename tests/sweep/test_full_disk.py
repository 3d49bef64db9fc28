"""Disks that are full, read-only or refuse a write: a sentence, nothing harmed, and the next run goes on."""

import sys

import pytest

from support.jobs import done, results, tiny_job
from support.launch import launch
from support.small_disk import small_disk
from sweep.test_sampled import journals

ROOT_WRITES = {"LANDSCAPE_WRITER": "root"}
FULL = "No space left on device"
SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}
CRAMPED = """
import os, resource
from tiny import cross_entropy as plain

def cross_entropy(outputs, targets):
    if room := os.environ.get("ROOM"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), -1))
    return plain(outputs, targets)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tiny job, whole, sampled and as two shards, on a disk with space."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch("sweep", tiny_job(folder)).returncode == 0
    assert launch("sweep", tiny_job(folder, "sampled.yaml", output__file="sampled.h5", **SAMPLED)).returncode == 0
    for index in range(2):
        assert launch("sweep", tiny_job(folder), "--shard", f"{index}/2").returncode == 0
    return folder


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 1024) as found:
        yield found


def on(disk, folder, **changes):
    return tiny_job(folder, output__file=str(disk.folder / "surface.h5"), **changes)


def refused(run, path, why=FULL, code=2):
    assert run.returncode == code, run.stderr
    assert run.stderr.count("error: ") == 1, run.stderr
    assert f"{path}" in run.stderr.partition("error: ")[2].partition("\n")[0]
    assert why in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("ranks", [None, pytest.param(3, marks=pytest.mark.mpi)])
def test_a_disk_without_space_shows_when_the_file_is_created(tmp_path, disk, undisturbed, ranks):
    job, surface = on(disk, tmp_path), disk.folder / "surface.h5"
    ballast = disk.folder / "ballast"
    ballast.write_bytes(bytes(1000 * 1024))
    refused(launch("sweep", job, ranks=ranks), surface)
    assert {path.name for path in disk.folder.iterdir()} == {"ballast", "surface.h5.lock"}
    ballast.unlink()
    assert launch("sweep", job, ranks=ranks).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")


def test_a_surface_has_all_its_space_from_the_start(tmp_path, disk, undisturbed):
    job, surface = on(disk, tmp_path), disk.folder / "surface.h5"
    assert launch("sweep", job, "--shard", "0/2").returncode == 0
    assert launch("merge", surface, disk.folder / "surface.shard-0-of-2.h5").returncode == 75
    (disk.folder / "surface.shard-0-of-2.h5").unlink()
    disk.resize(disk.used() + 8)  # for the lock
    assert launch("sweep", job).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")


@pytest.mark.parametrize("ranks", [None, pytest.param(3, marks=pytest.mark.mpi)])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_journals_that_fill_the_disk_stop_a_sampled_sweep(tmp_path, disk, undisturbed, ranks, share):
    job, surface = on(disk, tmp_path, **SAMPLED), disk.folder / "surface.h5"
    whole = undisturbed / "sampled.h5"
    room = whole.stat().st_size / 1024 + 40 + share * journals(whole) / 1024
    ballast = disk.folder / "ballast"
    ballast.write_bytes(bytes(int(1024 * (1024 - room))))
    refused(launch("sweep", job, ranks=ranks), f"{surface}.images")
    there = journals(surface)
    assert there > 0 or not share
    ballast.unlink()
    again = launch("sweep", job, ranks=ranks)
    assert again.returncode == 0, again.stderr
    assert ("slices of images are there" in again.stderr) == (share > 0)
    assert results(surface) == results(whole)
    assert journals(surface) < 1.01 * journals(whole) + 4 * 55


def test_a_merge_without_space_touches_nothing(tmp_path, disk, undisturbed):
    surface = disk.folder / "surface.h5"
    first, second = (undisturbed / f"surface.shard-{index}-of-2.h5" for index in range(2))
    assert launch("merge", surface, first).returncode == 75
    before = surface.read_bytes()
    disk.resize(disk.used() + 12)
    refused(launch("merge", surface, first, second), surface)
    assert surface.read_bytes() == before
    assert not list(disk.folder.glob(".*"))
    disk.resize(1024)
    assert launch("merge", surface, first, second).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")


def test_a_read_only_disk_is_refused_before_anything_is_computed_and_readers_do_not_mind(tmp_path, disk, undisturbed):
    surface, shard = disk.folder / "surface.h5", undisturbed / "surface.shard-0-of-2.h5"
    assert launch("merge", surface, shard).returncode == 75
    disk.read_only()
    run = launch("sweep", on(disk, tmp_path))
    refused(run, surface, "does not allow it (Read-only file system)")
    assert "engine" not in run.stderr
    new = tiny_job(tmp_path, "new.yaml", output__file=str(disk.folder / "new.h5"))
    refused(launch("sweep", new), disk.folder / "new.h5", "does not allow it (Read-only file system)")
    refused(launch("merge", surface, shard), surface, "Read-only file system")
    assert launch("info", surface).returncode == 0
    picture = tmp_path / "picture.png"
    drawn = launch(surface, "-o", picture, program=(sys.executable, "-m", "landscape_mpi.plot"))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.exists()


@pytest.mark.mpi
@pytest.mark.parametrize("env", [{}, ROOT_WRITES], ids=["parallel", "root"])
@pytest.mark.parametrize("ranks", [None, 3])
def test_a_write_that_the_system_refuses_ends_a_sweep_with_one_sentence(tmp_path, undisturbed, env, ranks):
    """A limit on the size of files stands for a quota or a broken disk: writes beyond it fail in an existing file."""
    job, surface = tiny_job(tmp_path, loss="cramped:cross_entropy"), tmp_path / "surface.h5"
    (tmp_path / "cramped.py").write_text(CRAMPED)
    assert launch("sweep", job, "--shard", "0/2").returncode == 0
    launch("merge", surface, tmp_path / "surface.shard-0-of-2.h5")
    before = surface.read_bytes()
    run = launch("sweep", job, ranks=ranks, env={**env, "ROOM": "3000"})
    refused(run, surface, "what it holds by now is kept")
    assert surface.read_bytes()[3000:] == before[3000:]
    assert done(surface) == 18
    assert launch("sweep", job, ranks=ranks, env=env).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")
