"""A point at which ranks die: SLURM queues the job again, and the third run marks the point and computes the others."""

import h5py
import pytest

from support.jobs import tiny_job
from support.waiting import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]
DEADLY = {"model__build": "tiny:deadly", "grid": {"alpha": [0, 3, 7]}, "evaluate": {"engine": "eager"}}


def test_the_third_run_marks_a_point_at_which_two_died(slurm, folder, submit):
    tiny_job(folder, **DEADLY)
    env = {"TINY_SLEEP": "0.02", "TINY_DEADLY": "2"}
    job = submit("sweep", "job.yaml", options=["--nodes=2", "--ntasks=2"], env=env)
    log = folder / f"landscape-sweep-{job}.log"
    for deaths in (1, 2):
        wait_for(lambda: log.exists() and log.read_text().count("queues itself again") == deaths)  # noqa: B023
        slurm.start_requeued(job)
    (ended,) = slurm.wait(job)
    said = log.read_text()
    assert (ended["JobState"], ended["ExitCode"], ended["Restarts"]) == ("FAILED", "3:0", "2"), said
    assert said.count(f"a rank died: {job} queues itself again") == 2
    assert "1 are marked failed after two deaths" in said
    with h5py.File(folder / "surface.h5") as file:
        assert file["status"][()].tolist() == [1, 1, 1, 1, 2, 1, 1]
