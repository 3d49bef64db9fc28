"""Others at the same file: a second sweep and a merge are refused, readers are welcome, the dead block nobody."""

import os
import socket
import sys
import threading
from itertools import cycle

import h5py
import pytest

from support.jobs import done, results, tiny_job
from support.launch import finish, kill_session, launch, start
from support.waiting import wait_for

PLOT = (sys.executable, "-m", "landscape_mpi.plot")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The tiny job on one process, and a shard of it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch("sweep", tiny_job(folder)).returncode == 0
    assert launch("sweep", tiny_job(folder), "--shard", "0/2").returncode == 0
    return folder


def begun(job, surface, seconds, **options):
    """Start a sweep of so many seconds per point and wait for its first ones."""
    process = start("sweep", job, env={"TINY_SLEEP": str(seconds)}, **options)
    wait_for(lambda: done(surface) >= 2 or process.poll() is not None)
    assert process.poll() is None
    return process


@pytest.mark.slow(60)
@pytest.mark.mpi
def test_who_else_writes_is_refused_with_the_holders_name(tmp_path, undisturbed):
    """Each waits 20 seconds, so a second sweep, one on ranks, and a merge wait at the same time."""
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    process = begun(job, surface, 2, ranks=2)
    others = [start("sweep", job), start("sweep", job, "--overwrite", ranks=2)]
    others.append(start("merge", surface, undisturbed / "surface.shard-0-of-2.h5"))
    holder = (tmp_path / "surface.h5.lock").read_text().strip()
    assert holder.endswith(f" on {socket.gethostname()}")
    assert int(holder.split()[1]) in process.members()
    for other in others:
        ended = finish(other, 120)
        assert ended.returncode == 2, ended.stderr
        assert ended.stderr.count(f"error: {surface}: {holder} is sweeping into it; wait for its end") == 1
    assert process.poll() is None
    kill_session(process)
    assert 2 <= done(surface) < 35


@pytest.mark.slow
def test_the_lock_of_a_dead_holder_blocks_nobody_wherever_it_was(tmp_path, undisturbed):
    job, surface, lock = tiny_job(tmp_path), tmp_path / "surface.h5", tmp_path / "surface.h5.lock"
    kill_session(begun(job, surface, 0.2))
    assert socket.gethostname() in lock.read_text()
    lock.write_text(f"process {os.getpid()} on another.node\n")  # alive here, but not there
    began = lock.stat().st_ino
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    assert "is sweeping into it" not in run.stderr
    assert lock.stat().st_ino == began
    assert "another.node" not in lock.read_text()
    assert results(surface) == results(undisturbed / "surface.h5")


class Readers:
    """Threads that read a surface over and over until told to stop, so many seconds apart, and what went wrong."""

    def __init__(self, **reads):
        self.errors, self.counts, self._over = [], dict.fromkeys(reads, 0), threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=(name, *read)) for name, read in reads.items()]

    def _repeat(self, name, pause, read):
        while not self.counts[name] or not self._over.is_set():
            try:
                read()
            except Exception as error:
                self.errors.append(repr(error))
            self.counts[name] += 1
            self._over.wait(pause)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()


def read_all(path, known, locking):
    """Every dataset by plain h5py; a point seen once is seen ever after, to the bit."""
    with h5py.File(path, "r", locking=locking) as file:
        status = file["status"][()]
        loss = file["train_loss"][()]
    for index in zip(*(status == 1).nonzero(), strict=True):
        assert known.setdefault(index, loss[index]) == loss[index]
    assert all(status[index] == 1 for index in known)


def command(*arguments, **options):
    run = launch(*arguments, **options)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow(20)
@pytest.mark.mpi
@pytest.mark.parametrize("env", [{}, {"LANDSCAPE_WRITER": "root"}], ids=["parallel", "root"])
def test_readers_see_a_surface_at_any_time_and_disturb_nothing(tmp_path, undisturbed, env):
    job, surface, picture = tiny_job(tmp_path), tmp_path / "surface.h5", tmp_path / "picture.png"
    known, locking = {}, cycle([None, False])  # as HDF5 does by itself, and as we advise
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.3", **env})
    # a picture needs points that span an area
    wait_for(lambda: done(surface) >= 12 or process.poll() is not None)
    with Readers(
        h5py=(0.01, lambda: read_all(surface, known, next(locking))),
        info=(0.3, lambda: command("info", surface)),
        plot=(0.3, lambda: command(surface, "-o", picture, program=PLOT)),
    ) as readers:
        ended = finish(process, 200)
    assert ended.returncode == 0, ended.stderr
    assert readers.errors == []
    assert readers.counts["h5py"] > 3
    assert results(surface) == results(undisturbed / "surface.h5")
    assert set(known.values())
