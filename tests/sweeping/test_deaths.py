"""Ranks that die: the job ends with one sentence, the next run goes on, and a point at which two died is marked."""

import os
import signal

import h5py
import pytest

from support.jobs import done, results, tiny_job
from support.launch import Run, command_line, environment, finish, is_open_mpi, launch, mpirun, start
from support.ranks import process_of
from support.waiting import wait_for

SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}
GRID = {"grid": {"alpha": [-1, 1, 5], "beta": [-0.5, 1, 3]}}
CASES = [("s[0,1].h5", None), pytest.param("surface.h5", 3, marks=[pytest.mark.mpi, pytest.mark.slow])]
DEADLY = {"model__build": "tiny:deadly", "grid": {"alpha": [0, 3, 7]}, "evaluate": {"engine": "eager"}}
KEPT = "; what is done is kept: run the same command again to go on."


def begin(job, ranks=2, recovery=False, fresh=False, **env):
    variables = {"TINY_SLEEP": "0.1", **env}
    if not recovery:
        return start("sweep", job, "--quiet", ranks=ranks, env=variables, fresh=fresh)
    line = command_line("sweep", job, "--quiet", ranks=ranks)
    return Run([line[0], "--enable-recovery", *line[1:]], None, environment(variables))


def codes(ranks):
    """The exit codes of a job with a dead rank: MPICH's mpirun may hand on that it killed the others (SIGKILL is 9)."""
    return {1} if ranks is None or is_open_mpi(mpirun()) else {1, 9}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the tiny job, on all examples and on some."""
    found = {}
    for sampled in (False, True):
        folder = tmp_path_factory.mktemp("undisturbed")
        assert launch("sweep", tiny_job(folder, **GRID, **(SAMPLED if sampled else {}))).returncode == 0
        found[sampled] = results(folder / "surface.h5")
    return found


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(("way", "rank"), [("all examples", 0), ("recovery, rank 0 writes", 1), ("some examples", 1)])
def test_a_dead_rank_ends_the_job_and_the_next_run_goes_on_to_the_same_bits(tmp_path, undisturbed, way, rank):
    sampled, recovery = way == "some examples", way.startswith("recovery")
    if recovery and not is_open_mpi(mpirun()):
        pytest.skip("Open MPI alone has --enable-recovery")
    job = tiny_job(tmp_path, **GRID, **(SAMPLED if sampled else {}))
    surface, journals = tmp_path / "surface.h5", tmp_path / "surface.h5.examples"
    slow = {} if sampled else {"TINY_CALLS": "26"}
    run = begin(job, recovery=recovery, fresh=not sampled, **slow, **({"LANDSCAPE_WRITER": "root"} if recovery else {}))
    wait_for(lambda: done(surface) >= 3 or (journals / "rank-00001.journal").exists() or run.poll() is not None)
    os.kill(process_of(run, rank), signal.SIGKILL)
    ended = finish(run, 60)
    assert ended.stderr.count("error: ") == 1
    assert f"error: rank {rank} on " in ended.stderr
    assert KEPT in ended.stderr
    assert "Traceback" not in ended.stderr
    if not recovery:  # Open MPI 4.1 returns 0 then, whatever the ranks return
        assert ended.returncode in codes(ranks=2)
    wait_for(lambda: run.members() == [], 10)
    assert run.members() == []
    kept = done(surface)
    again = finish(begin(job, ranks=None, TINY_SLEEP="0"), 200)
    assert again.returncode == 0, again.stderr
    assert done(surface) >= kept
    assert list(tmp_path.glob(".*")) == []
    assert results(surface) == undisturbed[sampled]


@pytest.mark.slow(15)
@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_a_point_at_which_two_ranks_died_is_marked_failed_and_tried_last_by_the_next_run(tmp_path, name, ranks):
    job = tiny_job(tmp_path, **DEADLY, output__file=name)
    surface, note = tmp_path / name, tmp_path / f".{name}.deaths"
    deadly = {"TINY_SLEEP": "0.02", "TINY_DEADLY": "2"}
    for time in (1, 2):
        ended = finish(begin(job, ranks=ranks, **deadly), 60)
        assert ended.returncode in codes(ranks)
        assert "died at alpha 2 (index (4,)) (killed by SIGKILL" in ended.stderr
        assert len(note.read_text().splitlines()) == time
    ended = finish(begin(job, ranks=ranks, **deadly), 60)
    assert ended.returncode == 3, ended.stderr
    assert "1 are marked failed after two deaths" in ended.stderr
    assert f"{name}: complete but for 1 point that failed twice; the next run tries again." in ended.stderr
    with h5py.File(surface) as file:
        assert file["status"][()].tolist() == [1, 1, 1, 1, 2, 1, 1]
        assert b"died at alpha 2" in file["error"][4]
        assert file["complete"][()] == 0
    assert len(note.read_text().splitlines()) == 1  # one more death is enough
    assert finish(begin(job, ranks=ranks), 60).returncode == 0
    assert not note.exists()


@pytest.mark.slow
def test_a_sampled_sweep_goes_on_without_such_a_point(tmp_path):
    job = tiny_job(tmp_path, **DEADLY, **SAMPLED)
    deadly = {"TINY_SLEEP": "0", "TINY_DEADLY": "2"}
    codes = [finish(begin(job, ranks=None, **deadly), 60).returncode for _ in range(3)]
    assert codes == [1, 1, 3]
    with h5py.File(tmp_path / "surface.h5") as file:
        assert file["status"][()].tolist() == [1, 1, 1, 1, 2, 1, 1]
    assert finish(begin(job, ranks=None, TINY_SLEEP="0"), 60).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_in_time_and_a_kill_of_everything_note_nothing(tmp_path, number):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    run = begin(job, ranks=None, fresh=number == signal.SIGKILL)
    wait_for(lambda: done(surface) >= 1 or run.poll() is not None)
    run.send_signal(number)  # of SIGKILL the process above hears as little as of a power cut
    finish(run, 60)
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_a_note_that_is_none_of_ours_is_passed_over(tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [0, 1, 2]})
    assert launch("sweep", job, "--quiet", "--time-limit", "0.001").returncode == 75
    (tmp_path / ".surface.h5.deaths").write_text('{"index": [0]}\n{"index": [[1]], "who": 1}\n\0\n[]\n')
    run = launch("sweep", job, "--quiet")
    assert (run.returncode, "note: of the points" in run.stderr) == (0, False), run.stderr
