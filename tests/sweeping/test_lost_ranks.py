"""Ranks that die: with --on-failure continue the others go on and end with the same bits; without it the job ends."""

import os
import signal
import sys
import time
from pathlib import Path

import h5py
import pytest

from support.jobs import done, results, tiny_job
from support.launch import Run, command_line, environment, finish, is_open_mpi, launch, mpirun
from support.waiting import wait_for

pytestmark = [pytest.mark.mpi, pytest.mark.slow]
CONTINUE = ("--on-failure", "continue")
SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}
UNKNOWN = """
import os, sys
for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
    os.environ.pop(name, None)
from landscape_mpi.__main__ import main
sys.exit(main())
"""
GRID = {"grid": {"alpha": [-1, 1, 5], "beta": [-0.5, 1, 3]}}


def begin(job, *flags, ranks=3, recovery=False, **env):
    line = command_line("sweep", job, "--quiet", *flags, ranks=ranks)
    if recovery:
        line.insert(1, "--enable-recovery")
    return Run(line, None, environment({"TINY_SLEEP": "0.1", **env}))


def process_of(run, rank):
    """The process of a rank: the child of its keeper, where it has one."""
    parents = {}
    for pid in run.members():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if {f"OMPI_COMM_WORLD_RANK={rank}".encode(), f"PMI_RANK={rank}".encode()} & set(variables):
            parents[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    first = next(pid for pid, parent in parents.items() if parent not in parents)
    return next((pid for pid, parent in parents.items() if parent == first), first)


def kill(run, rank, reached):
    """Kill -9 a rank once `reached`."""
    wait_for(lambda: reached() or run.poll() is not None)
    assert run.poll() is None
    os.kill(process_of(run, rank), signal.SIGKILL)


def left_overs(folder):
    return list(folder.glob(".surface.h5.ranks-*"))


def needs_open_mpi():
    if not is_open_mpi(mpirun()):
        pytest.skip("Open MPI alone has --enable-recovery")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the tiny job, on all images and on some."""
    found = {}
    for name, changes in (("all", GRID), ("some", {**GRID, **SAMPLED})):
        folder = tmp_path_factory.mktemp(name)
        assert launch("sweep", tiny_job(folder, **changes)).returncode == 0
        found[name] = results(folder / "surface.h5")
    return found


@pytest.mark.parametrize("way", ["keeper", "recovery, rank 0 writes", "some images"])
def test_the_others_go_on_and_end_with_the_same_bits(tmp_path, undisturbed, way):
    sampled, recovery = way == "some images", way.startswith("recovery")
    if recovery:
        needs_open_mpi()
    job = tiny_job(tmp_path, **GRID, **(SAMPLED if sampled else {}))
    surface, images = tmp_path / "surface.h5", tmp_path / "surface.h5.images"
    env = {"LANDSCAPE_WRITER": "root"} if recovery else {}
    run = begin(job, *CONTINUE, recovery=recovery, **env)
    kill(run, 2, lambda: done(surface) >= 3 or (images / "rank-00002.journal").exists())
    ended = finish(run, 300)
    assert "rank 2 on " in ended.stderr
    assert "died at alpha " in ended.stderr or "died; the others go on" in ended.stderr
    assert "surface.h5: complete" in ended.stderr
    assert "there is nothing left to do" in ended.stderr
    assert "Traceback" not in ended.stderr
    if recovery:
        assert ended.returncode == 0  # Open MPI 4.1 returns 0 then, whatever the ranks return
    elif is_open_mpi(mpirun()):
        assert ended.returncode == 1
    assert run.members() == []
    assert left_overs(tmp_path) == []
    assert results(surface) == undisturbed["some" if sampled else "all"]
    with h5py.File(surface) as file:
        assert file["complete"][()] == 1


@pytest.mark.parametrize("recovery", [False, True])
def test_without_the_flag_a_dead_rank_ends_the_job(tmp_path, recovery):
    if recovery:
        needs_open_mpi()
    job, surface = tiny_job(tmp_path), tmp_path / "surface.h5"
    run = begin(job, recovery=recovery, TINY_SLEEP="2")
    kill(run, 2, surface.exists)
    ended = finish(run, 60)
    assert done(surface) < 35
    if recovery:
        assert ended.stderr.count("error: rank 2 on ") == 1
        assert "died; what is done is kept: run the same command again." in ended.stderr
    else:
        assert ended.returncode not in (0, 75)
    assert run.members() == []


@pytest.mark.parametrize("recovery", [False, True])
def test_the_death_of_rank_0_ends_the_job_and_the_next_run_goes_on(tmp_path, undisturbed, recovery):
    if recovery:
        needs_open_mpi()
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    run = begin(job, *CONTINUE, recovery=recovery, TINY_SLEEP="1")
    kill(run, 0, lambda: done(surface) >= 2)
    ended = finish(run, 60)
    if recovery:
        assert ended.stderr.count("error: rank 0 on ") == 1
    else:
        assert ended.returncode not in (0, 75)
    wait_for(lambda: not run.members(), 10)
    assert run.members() == []
    assert 2 <= done(surface) < 15
    if not recovery:
        again = finish(begin(job, *CONTINUE, ranks=2, TINY_SLEEP="0"), 200)
        assert again.returncode == 0, again.stderr
        assert left_overs(tmp_path) == []
        assert results(surface) == undisturbed["all"]


def test_a_point_that_kills_every_rank_is_marked_after_two_deaths_even_where_rank_0_is_the_first(tmp_path):
    job, surface = tiny_job(tmp_path, loss="tiny:deadly", grid={"alpha": [0, 3, 7]}), tmp_path / "surface.h5"
    for _ in range(2):
        ended = finish(begin(job, *CONTINUE, TINY_SLEEP="0.05", TINY_LARGEST="7"), 200)
        if "complete but for" in ended.stderr:
            break
    assert ended.returncode == 3 or not is_open_mpi(mpirun())
    assert "died at alpha 3, beta 0 (index (6,)), which had failed before" in ended.stderr
    assert "surface.h5: complete but for 1 point that failed twice; the next run tries again." in ended.stderr
    with h5py.File(surface) as file:
        assert file["status"][()].tolist() == [1, 1, 1, 1, 1, 1, 2]
        assert b"died at alpha 3" in file["error"][6]
        assert file["complete"][()] == 0


def test_a_signal_after_a_death_still_stops_in_time(tmp_path):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    run = begin(job, *CONTINUE, TINY_SLEEP="0.7")
    kill(run, 2, lambda: done(surface) >= 1)
    time.sleep(1)
    run.send_signal(signal.SIGUSR1)
    ended = finish(run, 60)
    assert "stopped by SIGUSR1; what is done is kept" in ended.stderr
    if is_open_mpi(mpirun()):
        assert ended.returncode == 75
    assert run.members() == []
    assert 0 < done(surface) < 15


def test_a_launcher_that_is_not_known_is_said_to_end_the_job(tmp_path):
    program = (sys.executable, "-c", UNKNOWN)
    run = launch("sweep", tiny_job(tmp_path, **GRID), "--quiet", *CONTINUE, ranks=2, program=program)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("note: a rank that dies ends this sweep") == 1
