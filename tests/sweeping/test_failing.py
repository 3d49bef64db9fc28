"""Points that raise: with --on-failure continue they are tried twice, then marked, and the others go on."""

import h5py
import numpy as np
import pytest

from support.jobs import done, results, tiny_job
from support.launch import launch

JOB = {"loss": "tiny:fails_at_times", "grid": {"alpha": [-2, 2, 7], "beta": [-2, 2, 5]}}
SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}
RANKS = [None, pytest.param(3, marks=pytest.mark.mpi)]


def sweep(job, *flags, ranks=None, **env):
    return launch("sweep", job, *flags, ranks=ranks, env=env)


@pytest.fixture(scope="module")
def largest(tmp_path_factory):
    """A limit of the outputs that some points of the grid break, and theta* and the far corner do not."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = sweep(tiny_job(folder, **JOB))
    assert run.returncode == 0, run.stderr
    return results(folder / "surface.h5")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("way", [{}, {"LANDSCAPE_WRITER": "root"}], ids=["parallel", "root"])
def test_a_hiccup_is_tried_again_and_leaves_no_trace(tmp_path, largest, ranks, way):
    run = sweep(tiny_job(tmp_path, **JOB), "--on-failure", "continue", ranks=ranks, TINY_HICCUP="1", **way)
    assert run.returncode == 0, run.stderr
    assert results(tmp_path / "surface.h5") == largest


@pytest.mark.slow
def test_by_default_it_ends_the_sweep(tmp_path):
    run = sweep(tiny_job(tmp_path, **JOB), TINY_HICCUP="1")
    assert run.returncode == 2
    assert "ArithmeticError: a hiccup (tiny.py, line " in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS)
def test_points_that_fail_twice_are_marked_named_and_tried_again_by_the_next_run(tmp_path, largest, ranks):
    job, surface = tiny_job(tmp_path, **JOB), tmp_path / "surface.h5"
    run = sweep(job, "--on-failure", "continue", ranks=ranks, TINY_LARGEST="2.5")
    assert run.returncode == 3, run.stderr
    with h5py.File(surface) as file:
        status, error = file["status"][()], file["error"][()].astype(str)
        assert file["complete"][()] == 0
        assert np.isnan(file["train_loss"][()][status == 2]).all()
    failed = int((status == 2).sum())
    assert failed > 0
    assert failed + done(surface) == 35
    assert all(
        "failed at alpha" in text and "ZeroDivisionError: outputs are too large" in text for text in error[status == 2]
    )
    assert not error[status == 1].any()
    assert run.stderr.count("failed: rank ") == min(failed, 10)
    assert f"complete but for {failed} points that failed twice" in run.stderr
    assert f", {failed} failed (incomplete" in launch("info", surface).stdout
    again = sweep(job, ranks=ranks)
    assert again.returncode == 0, again.stderr
    assert results(surface) == largest
    with h5py.File(surface) as file:
        assert not file["error"][()].astype(str).any()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", RANKS)
def test_a_sampled_sweep_goes_on_without_them(tmp_path, ranks):
    job, surface = tiny_job(tmp_path, **JOB, **SAMPLED), tmp_path / "surface.h5"
    run = sweep(job, "--on-failure", "continue", ranks=ranks, TINY_LARGEST="4")
    assert run.returncode == 3, run.stderr
    with h5py.File(surface) as file:
        status, error = file["status"][()], file["error"][()].astype(str)
        assert file["complete"][()] == 0
    failed = int((status == 2).sum())
    assert failed > 0
    assert failed + done(surface) == 35
    assert all("ZeroDivisionError" in text for text in error[status == 2])
    again = sweep(job, ranks=ranks)
    assert again.returncode == 0, again.stderr
    assert done(surface) == 35
    with h5py.File(surface) as file:
        assert not file["error"][()].astype(str).any()
