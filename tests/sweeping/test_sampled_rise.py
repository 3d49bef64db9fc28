"""Sweeps for bars of the rise above f(0, 0), by the real command: honest, the same bits on any ranks, nothing lost."""

import h5py
import numpy as np
import pytest

from landscape_mpi.surface import journal_folder
from landscape_mpi.surface.plan import PLAN_NAME
from support.jobs import results, tiny_job
from support.launch import kill_session, launch, start
from support.waiting import wait_for

RISE = {
    "data__options": {"images": 4000},
    "grid": {"alpha": [-3, 3, 9], "beta": [-2, 2, 5]},
    "sampling": {"error": 0.05, "of": "rise", "audit": 8},
}


def rise_job(folder, **changes):
    """Write a job of 45 points and 4,000 examples; two points are evaluated on all of them first."""
    return tiny_job(folder, **{**RISE, **changes})


def array(path, name):
    with h5py.File(path, "r", locking=False) as file:
        return file[name][()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The job on one process: its surface, and what it said."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = launch("sweep", rise_job(folder))
    assert run.returncode == 0, run.stderr
    return folder / "surface.h5", run.stderr


@pytest.fixture(scope="module")
def every_example(tmp_path_factory):
    """The same job without sampling."""
    folder = tmp_path_factory.mktemp("every")
    assert launch("sweep", rise_job(folder, sampling=None)).returncode == 0
    return folder / "surface.h5"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_errors_are_within_bars_that_are_within_the_target_of_the_rise(undisturbed, every_example, split):
    surface, name = undisturbed[0], f"{split}_loss"
    found, bars, truth = array(surface, name), array(surface, f"{name}_bar"), array(every_example, name)
    centre = truth[2, 4]
    assert (np.abs(found - truth) <= bars + 1e-6 * truth).mean() > 0.9
    assert (bars <= 1.0001 * np.maximum(0.05 * np.abs(found - centre), 1e-3 * centre)).all()
    below = array(surface, f"{split}_examples") < 4000
    assert below.mean() > 0.3
    np.testing.assert_allclose(found[~below], truth[~below], rtol=1e-6)


@pytest.mark.slow
def test_it_says_what_bars_are_relative_to_and_records_it(undisturbed):
    surface, said = undisturbed
    assert "2 points on all examples first" in said
    assert "45 points to bars of 0.05 of the rise above f(0, 0), on 1 rank" in said
    assert "audit: passed: of 16 points on all examples" in said
    assert "largest |error| 0." in said
    with h5py.File(surface, "r") as file:
        recorded = dict(file.attrs)
        assert file["audit"].shape == (6,)
        assert recorded["train_loss_centre"] == pytest.approx(file["train_loss"][2, 4], rel=1e-9)
    assert (recorded["sampling_of"], recorded["sampling_floor"], recorded["sampling_error"]) == ("rise", 1e-3, 0.05)
    told = launch("info", surface).stdout
    assert "train_loss: at most" in told
    assert "% of the rise above f(0, 0)" in told
    assert "of the target" in told


@pytest.mark.mpi
def test_three_ranks_change_no_bit(tmp_path, undisturbed):
    run = launch("sweep", rise_job(tmp_path), ranks=3)
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == results(undisturbed[0])


@pytest.mark.mpi
def test_killed_on_the_way_it_goes_on_without_the_first_points_again(tmp_path, undisturbed):
    job, surface = rise_job(tmp_path), tmp_path / "surface.h5"
    process = start("sweep", job, ranks=2, env={"TINY_SLEEP": "0.01"})
    folder = journal_folder(surface)
    wait_for(lambda: any(path.stat().st_size > 200_000 for path in folder.glob("rank-*.journal")))
    kill_session(process)
    plan = (folder / PLAN_NAME).read_bytes()
    again = launch("sweep", job)
    assert again.returncode == 0, again.stderr
    assert "points on all examples first" not in again.stderr
    assert (folder / PLAN_NAME).read_bytes().startswith(plan)
    assert results(surface) == results(undisturbed[0])


@pytest.mark.slow
def test_shards_do_the_first_level_and_the_sweep_goes_on_from_them(tmp_path, undisturbed):
    job, surface = rise_job(tmp_path), tmp_path / "surface.h5"
    shards = []
    for shard in range(2):
        run = launch("sweep", job, "--shard", f"{shard}/2")
        assert run.returncode == 0, run.stderr
        shards.append(tmp_path / f"surface.shard-{shard}-of-2.h5")
    status = [array(shard, "status") for shard in shards]
    assert not (status[0] & status[1]).any()
    assert (status[0] | status[1]).all()
    merged = launch("merge", surface, *shards)
    assert (merged.returncode, "error bars still to narrow" in merged.stdout) == (75, True)
    run = launch("sweep", job)
    assert run.returncode == 0, run.stderr
    assert results(surface) == results(undisturbed[0])


@pytest.mark.slow
def test_a_surface_with_other_bars_is_refused_and_one_with_the_default_floor_written_out_is_not(undisturbed):
    folder = undisturbed[0].parent
    for sampling, key in (
        ({"error": 0.05, "audit": 8}, "sampling.of"),
        ({"error": 0.05, "of": "rise", "floor": 0.01, "audit": 8}, "sampling.floor"),
    ):
        refused = launch("sweep", rise_job(folder, sampling=sampling))
        assert refused.returncode == 2
        assert f"{key}: the file has" in refused.stderr
    same = launch("sweep", rise_job(folder, sampling={"error": 0.05, "of": "rise", "floor": 0.001, "audit": 8}))
    assert same.returncode == 0
    assert "nothing to do" in same.stderr


@pytest.mark.slow
def test_check_says_what_is_evaluated_first(tmp_path):
    told = launch("check", rise_job(tmp_path)).stdout
    assert "bars of 0.05 of the rise above f(0, 0): 2 points on all before; at first 400 of 4,000 train" in told


@pytest.mark.slow
def test_regression_without_classes_has_bars_too(tmp_path):
    changes = {"data__build": "tiny:regression", "loss": "mse", "metrics": ["loss"], "data__splits": ["train"]}
    run = launch("sweep", rise_job(tmp_path, **changes))
    assert run.returncode == 0, run.stderr
    assert launch("sweep", rise_job(tmp_path, **changes, sampling=None, output__file="full.h5")).returncode == 0
    found, bars = (array(tmp_path / "surface.h5", name) for name in ("train_loss", "train_loss_bar"))
    truth = array(tmp_path / "full.h5", "train_loss")
    assert (np.abs(found - truth) <= bars + 1e-6 * np.abs(truth)).mean() > 0.9


@pytest.mark.slow
def test_a_failed_audit_has_exit_code_3_again_and_again(tmp_path):
    sampling = {"error": 0.05, "of": "rise", "audit": 16}
    job = rise_job(tmp_path, loss="tiny:narrow_rises", data__splits=["train"], sampling=sampling)
    run = launch("sweep", job)
    assert run.returncode == 3, run.stderr
    assert "audit: FAILED, the bars cannot be trusted: of 16 points on all examples" in run.stderr
    assert "largest |error| " in run.stderr
    points, misses, worst, passed, farthest, widened = array(tmp_path / "surface.h5", "audit")
    assert (points, passed, array(tmp_path / "surface.h5", "complete")) == (16, 0, 1)
    assert misses > 3 or farthest > 2
    assert worst >= widened > 1
    again = launch("sweep", job)
    assert (again.returncode, "audit: FAILED" in again.stderr) == (3, True), again.stderr
    told = launch("info", tmp_path / "surface.h5").stdout
    assert "FAILED, the bars cannot be trusted" in told
    assert f"made up to {widened:.2f} times as wide" in told
