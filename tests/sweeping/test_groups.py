"""Groups of ranks under a real mpirun: their bits, and what becomes of deaths, signals and mistakes."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.jobs import done, results, tiny_job
from support.launch import finish, is_open_mpi, launch, mpirun, start
from support.ranks import process_of
from support.texts import language_job
from support.waiting import wait_for

GRID = {"grid": {"alpha": [-0.5, 0.5, 5], "beta": [-0.5, 0.5, 3]}, "evaluate": {"batch": 7}}
TESTS = Path(__file__).resolve().parents[1]
SLOW = {"TINY_RANK": "3", "TINY_SLEEP": "0.02", "TINY_OTHERS": "0.02", "TINY_CALLS": "24"}
"""The fourth or fifth point of rank 3 takes seconds, and its group with it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of the tiny job on one rank that holds the network once."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert launch("sweep", tiny_job(folder, **GRID), "--group", "1").returncode == 0
    return results(folder / "surface.h5")


@pytest.mark.mpi
@pytest.mark.slow
def test_groups_of_a_transformer_change_no_bit(tmp_path):
    pytest.importorskip("tokenizers")
    found = []
    for group in (1, 2, 4):
        job = language_job(tmp_path, output__file=f"{group}.h5", metrics=["loss"], **GRID)
        run = launch("sweep", job, "--group", str(group), ranks=4, env={"PYTHONPATH": str(TESTS)})
        assert run.returncode == 0, run.stderr
        assert (f"weights held by {group} ranks together" in run.stderr) == (group > 1)
        assert (f"on 4 ranks in groups of {group}." in run.stderr) == (group > 1)
        found.append(results(tmp_path / f"{group}.h5"))
    assert found[0] == found[1] == found[2]


def begun(job, surface, **options):
    told = surface.parent / "told"
    variables = SLOW | {"TINY_TOLD": str(told)}
    process = start("sweep", job, "--quiet", "--group", "2", ranks=4, env=variables, **options)
    wait_for(lambda: told.exists() or process.poll() is not None)
    assert process.poll() is None
    return process


def check_that_it_goes_on(tmp_path, job, undisturbed):
    kept = done(tmp_path / "surface.h5")
    sys.stdout.write(f"{kept} points kept\n")
    assert 3 <= kept < 15
    again = launch("sweep", job, "--group", "1")
    assert again.returncode == 0, again.stderr
    assert list(tmp_path.glob(".*")) == []
    assert results(tmp_path / "surface.h5") == undisturbed


@pytest.mark.mpi
@pytest.mark.slow
def test_a_dead_rank_of_a_group_ends_the_job_and_the_next_run_goes_on_to_the_same_bits(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    run = begun(job, surface)
    os.kill(process_of(run, 3), signal.SIGKILL)
    began = time.monotonic()
    ended = finish(run, 60)
    sys.stdout.write(f"ended {time.monotonic() - began:.1f} s after the death\n")
    assert ended.stderr.count("error: ") == 1, ended.stderr
    assert "error: rank 3 on " in ended.stderr
    assert "died at alpha" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 1 or not is_open_mpi(mpirun())
    wait_for(lambda: run.members() == [], 10)
    assert run.members() == []
    check_that_it_goes_on(tmp_path, job, undisturbed)


@pytest.mark.mpi
@pytest.mark.slow
def test_one_rank_that_is_told_to_stop_stops_all_groups(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    run = begun(job, surface)
    os.kill(process_of(run, 3), signal.SIGUSR1)
    ended = finish(run, 60)
    assert ended.returncode == 75, ended.stderr
    assert ended.stderr.count("stopped by SIGUSR1; what is done is kept") == 1
    check_that_it_goes_on(tmp_path, job, undisturbed)


@pytest.mark.mpi
@pytest.mark.slow
def test_a_time_limit_stops_all_groups(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    # both groups are slow: one alone could do all points
    slow = {"TINY_RANK": "3", "TINY_SLEEP": "0.5", "TINY_OTHERS": "0.5"}
    ended = launch("sweep", job, "--time-limit", "15", "--group", "2", ranks=4, env=slow)
    assert ended.returncode == 75, ended.stderr
    assert ended.stderr.count("stopped by the time limit") == 1
    assert "Traceback" not in ended.stderr
    assert not surface.exists() or done(surface) < 15
    again = launch("sweep", job, "--group", "2", ranks=4)
    assert again.returncode == 0, again.stderr
    assert results(surface) == undisturbed


@pytest.mark.mpi
@pytest.mark.slow
def test_a_point_that_raises_in_one_rank_of_a_group_ends_all_with_one_sentence(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path, loss="tiny:fails_later", **GRID), tmp_path / "surface.h5"
    run = launch("sweep", job, "--quiet", "--group", "2", ranks=4, env={"TINY_RANK": "3"})
    assert run.returncode == 2, run.stderr
    (told,) = (line for line in run.stderr.splitlines() if "error: " in line)
    assert re.search(r"error: .*rank 3 on \S+ failed at alpha \S+, beta \S+ \(index \(\d, \d\)\)", told), told
    assert "ZeroDivisionError: the user's loss broke (tiny.py, line " in told
    assert "Traceback" not in run.stderr
    again = launch("sweep", job, "--group", "2", ranks=4, env={"TINY_RANK": "-1"})
    assert again.returncode == 0, again.stderr
    assert results(surface) == undisturbed


@pytest.mark.mpi
@pytest.mark.slow
def test_a_sampled_sweep_by_groups_has_the_same_bits_and_bars(tmp_path):
    changes = {**GRID, "data__options": {"images": 2000}, "sampling": {"error": 0.02, "audit": 4}}
    changes["evaluate"] = {"batch": 100}
    found = []
    for group in ("1", "2"):
        job = tiny_job(tmp_path, output__file=f"{group}.h5", **changes)
        run = launch("sweep", job, "--group", group, ranks=4)
        assert run.returncode == 0, run.stderr
        found.append(results(tmp_path / f"{group}.h5"))
    assert found[0] == found[1]
    with h5py.File(tmp_path / "2.h5") as file:
        assert len(np.unique(file["train_examples"][()])) > 1  # it saves some


@pytest.mark.mpi
@pytest.mark.slow
def test_shards_by_groups_make_the_surface_of_one_rank(tmp_path, undisturbed):
    job, surface = tiny_job(tmp_path, **GRID), tmp_path / "surface.h5"
    for shard, ranks in (("0/2", 4), ("1/2", 2)):
        run = launch("sweep", job, "--shard", shard, "--group", "2", ranks=ranks)
        assert run.returncode == 0, run.stderr
    shards = [tmp_path / f"surface.shard-{index}-of-2.h5" for index in range(2)]
    assert [done(path) for path in shards] == [8, 7]
    assert launch("merge", surface, *shards).returncode == 0
    assert results(surface) == undisturbed


@pytest.mark.mpi
def test_ranks_that_do_not_come_out_even_are_the_users_mistake(tmp_path):
    run = launch("sweep", tiny_job(tmp_path), "--group", "2", ranks=3)
    assert run.returncode == 2
    assert "error: --group: found 2; expected a divisor of the number of ranks, 3." in run.stderr
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.parametrize("found", ["0", "-1", "two"])
def test_a_group_is_a_number_of_ranks(tmp_path, found):
    run = launch("sweep", tiny_job(tmp_path), f"--group={found}")
    assert run.returncode == 2
    assert f"--group: found '{found}'; expected a whole number above 0" in run.stderr
