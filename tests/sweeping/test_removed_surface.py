"""A surface that is removed while it is swept: no exit code 0, and nothing lost."""

import pytest

from support.jobs import done, results, tiny_job
from support.launch import launch, start
from support.waiting import wait_for

SAMPLED = {"data__options": {"images": 2000}, "sampling": {"error": 0.05, "audit": 4}}


@pytest.mark.slow(20)
@pytest.mark.parametrize(
    ("ranks", "changes"), [(None, {}), (None, SAMPLED), pytest.param(2, {}, marks=pytest.mark.mpi)]
)
def test_a_removed_surface_is_saved_and_the_same_command_goes_on(tmp_path, ranks, changes):
    job, surface = tiny_job(tmp_path, **changes), tmp_path / "surface.h5"
    slow = {"TINY_SLEEP": "0.02", "TINY_CALLS": "28", "TINY_LATER": "0.06" if changes else "0.3"}
    run = start("sweep", job, ranks=ranks, env=slow)
    wait_for(lambda: done(surface) > 3)
    surface.unlink()
    _, errors = run.communicate()
    assert run.returncode == 2, errors
    assert errors.count("error: ") == 1
    assert (
        f"error: {surface}: was removed, moved or replaced while it was written; what it holds was saved as" in errors
    )
    assert "complete" not in errors
    assert done(surface) > 3
    assert launch("sweep", job).returncode == 0
    undisturbed = tiny_job(tmp_path, "undisturbed.yaml", output__file="undisturbed.h5", **changes)
    assert launch("sweep", undisturbed).returncode == 0
    assert results(surface) == results(tmp_path / "undisturbed.h5")
