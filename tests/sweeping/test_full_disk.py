"""Disks that are full, read-only or refuse a write: a sentence, nothing harmed, and the next run goes on."""

import shutil
import sys

import pytest

from support.jobs import done, results, tiny_job
from support.launch import launch
from support.small_disk import small_disk
from sweeping.test_sampled import journals, slices

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


def job_in(folder, output="surface.h5", name="job.yaml", **changes):
    """Write the tiny job, whose loss leaves files no more than ROOM bytes where that is set."""
    (folder / "cramped.py").write_text(CRAMPED)
    return tiny_job(folder, name, output__file=str(output), loss="cramped:cross_entropy", **changes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The job on a disk with space: whole, sampled, in two shards, and merged from one of them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch("sweep", job_in(folder)).returncode == 0
    assert launch("sweep", job_in(folder, "sampled.h5", "sampled.yaml", **SAMPLED)).returncode == 0
    for index in range(2):
        assert launch("sweep", job_in(folder), "--shard", f"{index}/2").returncode == 0
    assert launch("merge", folder / "half.h5", folder / "surface.shard-0-of-2.h5").returncode == 75
    return folder


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", 1024) as found:
        yield found


def refused(run, path, why=FULL):
    assert run.returncode == 2, run.stderr
    assert run.stderr.count("error: ") == 1, run.stderr
    assert str(path) in run.stderr.partition("error: ")[2].partition("\n")[0]
    assert why in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.mpi
def test_a_disk_without_space_shows_when_the_file_is_created(tmp_path, disk, undisturbed):
    surface, ballast = disk.folder / "surface.h5", disk.folder / "ballast"
    job = job_in(tmp_path, surface)
    ballast.write_bytes(bytes(1000 * 1024))
    refused(launch("sweep", job, ranks=3), surface)
    assert {path.name for path in disk.folder.iterdir()} == {"ballast", "surface.h5.lock"}
    ballast.unlink()
    assert launch("sweep", job).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")


@pytest.mark.slow
def test_a_surface_has_all_its_space_from_the_start(tmp_path, disk, undisturbed):
    surface = shutil.copy(undisturbed / "half.h5", disk.folder / "surface.h5")
    disk.resize(disk.used() + 4)  # for the lock
    run = launch("sweep", job_in(tmp_path, surface))
    assert run.returncode == 0, run.stderr
    assert results(surface) == results(undisturbed / "surface.h5")


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.parametrize(("ranks", "share"), [(None, 0.0), (3, 0.5)])
def test_journals_that_fill_the_disk_stop_a_sampled_sweep(tmp_path, disk, undisturbed, ranks, share):
    surface, whole, ballast = disk.folder / "surface.h5", undisturbed / "sampled.h5", disk.folder / "ballast"
    job = job_in(tmp_path, surface, **SAMPLED)
    room = whole.stat().st_size + 40 * 1024 + share * journals(whole)
    ballast.write_bytes(bytes(int(1024 * 1024 - room)))
    refused(launch("sweep", job, ranks=ranks), f"{surface}.examples")
    assert bool(journals(surface)) == bool(share)
    ballast.unlink()
    again = launch("sweep", job)
    assert again.returncode == 0, again.stderr
    assert ("slices of examples are there" in again.stderr) == bool(share)
    assert results(surface) == results(whole)
    # each slice once: nothing that the full disk took has been evaluated again
    assert sorted(slices(surface)) == sorted(slices(whole))


@pytest.mark.slow
def test_a_merge_without_space_touches_nothing(disk, undisturbed):
    surface = shutil.copy(undisturbed / "half.h5", disk.folder / "surface.h5")
    shard, before = undisturbed / "surface.shard-1-of-2.h5", surface.read_bytes()
    disk.resize(disk.used() + 12)
    refused(launch("merge", surface, shard), surface)
    assert surface.read_bytes() == before
    assert not list(disk.folder.glob(".*"))
    disk.resize(1024)
    assert launch("merge", surface, shard).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")


@pytest.mark.slow
def test_a_read_only_disk_is_refused_before_anything_is_computed_and_readers_do_not_mind(tmp_path, disk, undisturbed):
    surface, new = shutil.copy(undisturbed / "half.h5", disk.folder / "surface.h5"), disk.folder / "new.h5"
    disk.read_only()
    for output in (surface, new):
        run = launch("sweep", job_in(tmp_path, output))
        refused(run, output, "does not allow it (Read-only file system)")
        assert "engine" not in run.stderr
    refused(launch("merge", surface, undisturbed / "surface.shard-1-of-2.h5"), surface, "Read-only file system")
    assert launch("info", surface).returncode == 0
    picture = tmp_path / "picture.png"
    drawn = launch(surface, "-o", picture, program=(sys.executable, "-m", "landscape_mpi.plot"))
    assert drawn.returncode == 0, drawn.stderr
    assert picture.exists()


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.parametrize(("ranks", "env"), [(None, {}), (None, ROOT_WRITES), (3, {}), (3, ROOT_WRITES)])
def test_a_write_that_the_system_refuses_ends_a_sweep_with_one_sentence(tmp_path, undisturbed, ranks, env):
    """A limit on the size of files stands for a quota or a broken disk: writes beyond it fail in an existing file."""
    surface, job = shutil.copy(undisturbed / "half.h5", tmp_path / "surface.h5"), job_in(tmp_path)
    before = surface.read_bytes()
    run = launch("sweep", job, ranks=ranks, env={**env, "ROOM": "3000"})
    refused(run, surface, "cannot be written (File too large); what it holds by now is kept")
    assert surface.read_bytes()[3000:] == before[3000:]
    assert done(surface) == 18
    assert launch("sweep", job).returncode == 0
    assert results(surface) == results(undisturbed / "surface.h5")
