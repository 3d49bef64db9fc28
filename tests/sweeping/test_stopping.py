"""Signals and limits: what is in hand is dropped, the file is closed, exit code 75, and the next run goes on."""

import os
import signal

import h5py
import numpy as np
import pytest

from landscape_mpi.mpi.shutdown import LEAD, Interrupted, Stop, stop_time
from support.jobs import done, results, tiny_job
from support.launch import finish, launch, start
from support.ranks import rank_of
from support.waiting import wait_for

SLOW = {"TINY_SLEEP": "0.1", "TINY_CALLS": "28"}
"""The first five points of rank 0 and eight of any other are quick, the others take four seconds each."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the tiny job on one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch("sweep", tiny_job(folder)).returncode == 0
    return results(folder / "surface.h5")


def begun(job, surface, points=4, **options):
    """Start a slow sweep and wait for its first points."""
    process = start("sweep", job, **options)
    wait_for(lambda: done(surface) >= points or process.poll() is not None)
    assert process.poll() is None
    return process


def check_that_it_goes_on(job, surface, undisturbed, ranks=None):
    before = done(surface)
    assert 0 < before < 35
    with h5py.File(surface) as file:
        assert file["complete"][()] == 0
        assert np.isnan(file["finished"][()])
    again = launch("sweep", job, ranks=ranks)
    assert again.returncode == 0, again.stderr
    assert f"{before} points are there, {35 - before} to do" in again.stderr
    assert results(surface) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_process_alone_stops_at_a_signal_even_twice(tmp_path, undisturbed, number):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    process = begun(job, surface, env=SLOW)
    process.send_signal(number)
    process.send_signal(number)
    ended = finish(process, 60)
    assert ended.returncode == 75
    assert f"surface.h5: stopped by {number.name}; what is done is kept: run the same command again" in ended.stderr
    assert "Traceback" not in ended.stderr
    check_that_it_goes_on(job, surface, undisturbed)


@pytest.mark.mpi
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_all_ranks_stop_at_a_signal_to_their_launcher(tmp_path, undisturbed, number):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    process = begun(job, surface, ranks=3, env=SLOW, fresh=number == signal.SIGTERM)
    process.send_signal(number)
    ended = finish(process, 60)
    # a launcher gives a second after SIGTERM and then kills: nothing is lost either way
    assert ended.returncode == 75 or number == signal.SIGTERM
    wait_for(lambda: process.members() == [], 10)
    assert process.members() == []
    check_that_it_goes_on(job, surface, undisturbed, ranks=2)


@pytest.mark.mpi
@pytest.mark.parametrize("which", [0, 2])
def test_one_rank_that_is_told_to_stop_stops_all(tmp_path, undisturbed, which):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    process = begun(job, surface, ranks=3, env=SLOW, fresh=which == 0)
    os.kill(rank_process(process, which), signal.SIGUSR1)
    ended = finish(process, 60)
    assert ended.returncode == 75
    assert ended.stderr.count("stopped by SIGUSR1; what is done is kept") == 1
    check_that_it_goes_on(job, surface, undisturbed)


def rank_process(process, rank):
    """The process of a rank, as its environment says."""
    return next(pid for pid in process.members() if rank_of(pid) == rank)


@pytest.mark.mpi
def test_a_time_limit_stops_in_time_by_itself(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    ended = launch("sweep", job, "--time-limit", "6", ranks=2, env={"TINY_SLEEP": "0.3"})
    assert ended.returncode == 75, ended.stderr
    assert "stopped by the time limit" in ended.stderr
    if done(surface):  # a loaded machine may not come to its first point
        check_that_it_goes_on(job, surface, undisturbed)


@pytest.mark.slow
def test_a_limit_before_the_first_point_writes_nothing(tmp_path):
    ended = launch("sweep", tiny_job(tmp_path), "--time-limit", "0.001")
    assert ended.returncode == 75
    assert "stopped by the time limit; what is done is kept" in ended.stderr
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.parametrize("limit", ["0", "-3", "inf", "nan", "soon"])
def test_a_limit_that_is_none_is_refused(tmp_path, limit):
    run = launch("sweep", tiny_job(tmp_path), f"--time-limit={limit}")
    assert run.returncode == 2
    assert "--time-limit" in run.stderr


@pytest.mark.mpi
def test_a_sampled_sweep_stops_and_goes_on(tmp_path):
    changes = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}
    job, surface = tiny_job(tmp_path, **changes), tmp_path / "surface.h5"
    journals = tmp_path / "surface.h5.examples"
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.1", "TINY_JOURNALS": f"40000:{journals}"})
    wait_for(lambda: sum(path.stat().st_size for path in journals.glob("rank-*.journal")) >= 40_000)
    process.send_signal(signal.SIGUSR1)
    ended = finish(process, 60)
    assert ended.returncode == 75
    assert 0 < done(surface) < 35
    assert launch("sweep", job).returncode == 0
    other = tiny_job(tmp_path, name="other.yaml", output__file="other.h5", **changes)
    assert launch("sweep", other).returncode == 0
    assert results(surface) == results(tmp_path / "other.h5")


def test_slurms_own_end_and_the_limit_are_kept_whichever_comes_first():
    assert stop_time(None, None, 1000.0) is None
    assert stop_time(3600, None, 1000.0) == 4600 - LEAD
    assert stop_time(10, None, 1000.0) == 1009.5
    assert stop_time(3600, 2000.0, 1000.0) == 2000 - LEAD
    assert stop_time(60, 2000.0, 1000.0) == 1057


def test_a_stop_has_a_reason_only_once_its_time_has_come():
    now = [10.0]
    stop = Stop(20.0, lambda: now[0])
    stop.check()
    assert stop.reason == ""
    now[0] = 20.0
    with pytest.raises(Interrupted, match="the time limit"):
        stop.check()
