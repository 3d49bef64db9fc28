"""Sweeps on some of the examples, by the real command: honest bars, the same bits on any ranks, nothing lost."""

import datetime
import re
import shutil
import signal

import h5py
import numpy as np
import pytest

from landscape_mpi.surface.journal import JOURNAL, read_journals
from landscape_mpi.surface.journal import journals as journal_files
from landscape_mpi.surface.read import read_surface, share_used
from support.jobs import done, results, tiny_job
from support.launch import finish, kill_session, launch, start
from support.waiting import wait_for

SAMPLED = {
    "data__options": {"images": 4000},
    "grid": {"alpha": [-3, 3, 9], "beta": [-2, 2, 5]},
    "sampling": {"error": 0.02, "audit": 6},
}


def sampled_job(folder, **changes):
    """Write a job of 45 points and 4,000 examples, which takes two rounds and an audit."""
    return tiny_job(folder, **{**SAMPLED, **changes})


def slices(surface):
    """Point, split and first example of each record that the ranks' journals hold."""
    folder = surface.with_name(surface.name + ".examples")
    identity = journal_files(folder)[0].read_bytes()[len(JOURNAL.magic) :][:32]
    return [(slice_.point, slice_.split, slice_.start) for slice_ in read_journals(folder, identity)]


def journals(surface):
    return sum(path.stat().st_size for path in surface.with_name(surface.name + ".examples").glob("rank-*.journal"))


def array(path, name):
    with h5py.File(path, "r", locking=False) as file:
        return file[name][()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The sampled job on one process: its folder, and what it said."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = launch("sweep", sampled_job(folder))
    assert run.returncode == 0, run.stderr
    return folder, run.stderr


@pytest.fixture(scope="module")
def every_example(tmp_path_factory):
    """The same job without sampling."""
    folder = tmp_path_factory.mktemp("every")
    run = launch("sweep", sampled_job(folder, sampling=None))
    assert run.returncode == 0, run.stderr
    return folder / "surface.h5"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_errors_are_within_the_bars_that_are_within_the_target(undisturbed, every_example, split):
    surface = undisturbed[0] / "surface.h5"
    for name, unit in ((f"{split}_loss", 1.0), (f"{split}_acc", 0.0)):
        found, bars, truth = array(surface, name), array(surface, f"{name}_bar"), array(every_example, name)
        examples = array(surface, f"{split}_examples")
        assert (np.abs(found - truth) <= bars + 1e-6 * truth).mean() > 0.9
        if unit:
            assert (bars <= 0.02 * found).all()
        assert (bars[examples == 4000] == 0).all()
        assert (bars[examples < 4000] > 0).all()
        errors = array(surface, f"{name}_stderr"), array(every_example, f"{name}_stderr")
        np.testing.assert_allclose(*errors, rtol=0.35)
        np.testing.assert_allclose(errors[0][examples == 4000], errors[1][examples == 4000], rtol=1e-5)
    assert set(np.unique(examples)) <= {800, 1600, 3200, 4000}
    assert examples.min() == 800


@pytest.mark.slow
def test_it_says_what_it_saved_and_what_the_audit_found(undisturbed):
    folder, said = undisturbed
    assert "45 points to bars of 0.02, on 1 rank" in said
    assert "round 1: " in said
    assert re.search(r"complete, every bar within its target, (32|33)\.", said), said
    share = share_used(read_surface(folder / "surface.h5"))
    assert f"with it {share:.2%} of a full sweep's examples" in said
    assert "audit: passed: of 12 points on all examples" in said
    points, misses, worst, passed, farthest, widened = array(folder / "surface.h5", "audit")
    assert (points, passed) == (12, 1)
    assert 0 < farthest < 2
    assert 1 <= widened < 2
    assert misses <= 2
    assert 0 < worst < 2
    assert array(folder / "surface.h5", "rounds") >= 1
    assert array(folder / "surface.h5", "complete") == 1


@pytest.mark.mpi
def test_five_ranks_change_no_bit(tmp_path, undisturbed):
    run = launch("sweep", sampled_job(tmp_path), ranks=5)
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == results(undisturbed[0] / "surface.h5")
    assert len(list((tmp_path / "surface.h5.examples").glob("rank-*.journal"))) == 5


@pytest.mark.mpi
@pytest.mark.parametrize("share", [0.1, 0.5, 0.72, 0.95])
def test_killed_at_any_moment_it_goes_on_and_ends_as_if_undisturbed(tmp_path, undisturbed, share):
    job, surface = sampled_job(tmp_path), tmp_path / "surface.h5"
    enough = share * journals(undisturbed[0] / "surface.h5")
    held = {"TINY_SLEEP": "0.01", "TINY_JOURNALS": f"{enough}:{surface}.examples"}
    process = start("sweep", job, ranks=3, env=held)
    wait_for(lambda: journals(surface) >= enough or process.poll() is not None)
    kill_session(process)
    before = journals(surface)
    assert 0 < before < journals(undisturbed[0] / "surface.h5")
    again = launch("sweep", job, ranks=2)
    assert again.returncode == 0, again.stderr
    assert "slices of examples are there; 45 points to bars" in again.stderr
    assert results(surface) == results(undisturbed[0] / "surface.h5")
    # what was there has not been evaluated again: together the journals hold each slice once
    assert sorted(slices(surface)) == sorted(slices(undisturbed[0] / "surface.h5"))


@pytest.mark.slow
def test_where_the_audit_leaves_bars_too_wide_all_examples_are_evaluated_also_after_a_kill(tmp_path):
    sampling = {"error": 0.012, "seed": 2, "audit": 8}  # an unlucky order: 2 of 8 bars miss
    job, surface = sampled_job(tmp_path, data__splits=["train"], sampling=sampling), tmp_path / "surface.h5"
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    assert "note: train: the audit leaves 1 of 45 bars wider than the target; all examples are evaluated" in run.stderr
    assert "complete, every bar within its target" in run.stderr
    assert "audit: passed: of 8 points" in run.stderr
    assert f"with it {share_used(read_surface(surface)):.2%} of a full sweep's examples" in run.stderr
    assert (array(surface, "train_loss_bar") <= 0.012 * array(surface, "train_loss")).all()
    assert (array(surface, "train_examples") == 4000).sum() == 10  # with theta* and the audited points

    (tmp_path / "killed").mkdir()
    killed = sampled_job(tmp_path / "killed", data__splits=["train"], sampling=sampling)
    other, enough = killed.with_name("surface.h5"), 0.97 * journals(surface)
    process = start("sweep", killed, env={"TINY_JOURNALS": f"{enough}:{other}.examples"})
    wait_for(lambda: journals(other) >= enough or process.poll() is not None)
    kill_session(process)
    again = launch("sweep", killed, ranks=2)
    assert "the audit leaves 1 of 45 bars wider" in again.stderr
    assert results(other) == results(surface)
    assert sorted(slices(other)) == sorted(slices(surface))


@pytest.mark.slow
def test_interrupted_the_file_holds_what_is_known(tmp_path):
    job, surface = sampled_job(tmp_path), tmp_path / "surface.h5"
    held = {"TINY_SLEEP": "0.01", "TINY_JOURNALS": f"200000:{surface}.examples"}
    process = start("sweep", job, env=held)
    wait_for(lambda: journals(surface) >= 200_000 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    stopped = finish(process, 60)
    assert stopped.returncode == 75, stopped.stderr
    assert 0 < done(surface) <= 45
    there = array(surface, "status") == 1
    bars, loss = array(surface, "train_loss_bar"), array(surface, "train_loss")
    assert np.isfinite(bars[there]).all()
    assert (array(surface, "train_examples")[there] >= 800).all()
    assert np.isnan(loss[~there]).all()
    assert array(surface, "complete") == 0


@pytest.mark.slow
def test_without_the_folder_it_says_so_and_evaluates_again(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    job, surface = sampled_job(tmp_path), tmp_path / "surface.h5"
    shutil.rmtree(tmp_path / "surface.h5.examples")
    finished = launch("sweep", job)
    assert finished.returncode == 0
    assert "nothing to do" in finished.stderr
    with h5py.File(surface, "r+") as file:
        file["complete"][()] = 0
    again = launch("sweep", job)
    assert again.returncode == 0
    assert "surface.h5.examples is missing, and with it what each example gave: it is evaluated again" in again.stderr
    assert results(surface) == results(undisturbed[0] / "surface.h5")


@pytest.mark.slow
def test_a_bad_audit_is_an_honest_result_with_exit_code_3(tmp_path):
    job = sampled_job(tmp_path, loss="tiny:narrow_bars", sampling={"error": 0.02, "audit": 16})
    run = launch("sweep", job)
    assert run.returncode == 3, run.stderr
    assert "audit: FAILED, the bars cannot be trusted: of 32 points on all examples" in run.stderr
    assert array(tmp_path / "surface.h5", "audit")[3] == 0
    assert array(tmp_path / "surface.h5", "complete") == 1
    again = launch("sweep", job)
    assert (again.returncode, "audit: FAILED" in again.stderr) == (3, True)
    told = launch("info", tmp_path / "surface.h5")
    assert re.search("audit +FAILED, the bars cannot be trusted", told.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampling", "examples", "why"),
    [
        ({"error": 0}, 4000, "error: 0 asks for them"),
        ({"error": 0.02}, 300, "there are 300 and the first level alone takes 800"),
        ({"error": 1.0e-4}, 2000, "save nothing"),
    ],
)
def test_where_nothing_can_be_saved_it_is_the_full_sweep_bit_for_bit(tmp_path, every_example, sampling, examples, why):
    small = {"grid": {"alpha": [-3, 3, 9], "beta": [-2, 2, 5]}, "data__options": {"images": examples}}
    run = launch("sweep", sampled_job(tmp_path, **small, sampling=sampling))
    assert run.returncode == 0, run.stderr
    assert why in run.stderr
    found = results(tmp_path / "surface.h5")
    if examples != 4000:
        launch("sweep", sampled_job(tmp_path, **small, sampling=None, output__file="full.h5"))
    full = results(every_example if examples == 4000 else tmp_path / "full.h5")
    assert {name: found[name] for name in full} == full
    assert set(found) - set(full) == {
        *("train_loss_bar", "train_acc_bar", "train_examples", "test_loss_bar", "test_acc_bar", "test_examples")
    }
    assert (array(tmp_path / "surface.h5", "train_loss_bar") == 0).all()
    assert (array(tmp_path / "surface.h5", "test_examples") == examples).all()


@pytest.mark.slow
def test_a_split_too_small_to_sample_is_used_whole_beside_one_that_is_not(tmp_path):
    job = sampled_job(tmp_path, data__build="tiny:uneven", data__options=None)
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    assert "note: test: all examples at every point: there are 300" in run.stderr
    assert (array(tmp_path / "surface.h5", "test_examples") == 300).all()
    assert array(tmp_path / "surface.h5", "train_examples").min() == 800
    launch(
        "sweep",
        sampled_job(tmp_path, data__build="tiny:uneven", data__options=None, sampling=None, output__file="full.h5"),
    )
    for name in ("test_loss", "test_acc", "test_loss_stderr"):
        assert array(tmp_path / "surface.h5", name).tobytes() == array(tmp_path / "full.h5", name).tobytes()


@pytest.mark.slow
def test_a_line_of_a_regression_that_diverges(tmp_path):
    changes = {"data__build": "tiny:regression", "loss": "mse", "metrics": ["loss"], "grid": {"alpha": [0, 1e30, 3]}}
    run = launch("sweep", sampled_job(tmp_path, **changes))
    assert run.returncode == 0, run.stderr
    surface = tmp_path / "surface.h5"
    assert array(surface, "train_loss").shape == (3,)
    finite = np.isfinite(array(surface, "train_loss"))
    assert finite.tolist() == [True, False, False]
    assert (array(surface, "train_examples")[~finite] == 4000).all()
    assert (array(surface, "train_loss_bar")[~finite] == 0).all()
    assert done(surface) == 3


@pytest.mark.slow
def test_journals_of_another_sweep_are_refused_and_only_overwrite_removes_them(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0] / "surface.h5.examples", tmp_path / "surface.h5.examples")
    job = sampled_job(tmp_path, plane__seed=8)
    refused = launch("sweep", job)
    assert refused.returncode == 2
    assert "holds the losses of another sweep than the surface beside it" in refused.stderr
    assert not (tmp_path / "surface.h5").exists()
    assert journals(tmp_path / "surface.h5") == journals(undisturbed[0] / "surface.h5")
    assert launch("sweep", job, "--overwrite").returncode == 0


@pytest.mark.slow
def test_options_may_hold_whatever_yaml_does(tmp_path):
    since = datetime.date(2020, 2, 29)
    changes = {"data__build": "tiny:dated", "data__options": {"since": since}, "grid": {"alpha": [0, 1, 2]}}
    run = launch("sweep", sampled_job(tmp_path, **changes))
    assert run.returncode == 0, run.stderr
    assert done(tmp_path / "surface.h5") == 2


@pytest.mark.slow
def test_another_target_or_seed_is_another_experiment(tmp_path, undisturbed):
    shutil.copytree(undisturbed[0], tmp_path, dirs_exist_ok=True)
    for sampling, key in (({"error": 0.03, "audit": 6}, "error"), ({"error": 0.02, "audit": 6, "seed": 1}, "seed")):
        refused = launch("sweep", sampled_job(tmp_path, sampling=sampling))
        assert refused.returncode == 2
        assert f"sampling.{key}: the file has" in refused.stderr


def test_check_says_where_it_begins_and_what_it_may_cost(tmp_path):
    run = launch("check", sampled_job(tmp_path))
    assert run.returncode == 0, run.stderr
    assert (
        "bars of 0.02: at first 800 of 4,000 train, 800 of 4,000 test examples per point; 6 points on all" in run.stdout
    )
    assert re.search(r"time +0:\d\d at the least, 0:\d\d at the most, on one rank", run.stdout)
    assert not (tmp_path / "surface.h5.examples").exists()
