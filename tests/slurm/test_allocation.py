"""sweep.sbatch and many-jobs.sbatch: whole surfaces, over several nodes and one a task, however ranks are started."""

import h5py
import pytest

from support.jobs import results, tiny_job
from support.launch import is_open_mpi, mpirun

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]
ON_TWO_NODES = ("--nodes=2", "--ntasks=4", "--ntasks-per-node=2")


@pytest.mark.parametrize("launcher", ["mpirun", "srun --mpi=pmix"])
def test_one_allocation_over_two_nodes_changes_no_bit(slurm, folder, submit, plain, launcher):
    if launcher != "mpirun" and not is_open_mpi(mpirun()):
        pytest.skip("MPICH of PyPI does not speak PMIx")
    (job,) = slurm.wait(submit("sweep", "job.yaml", options=ON_TWO_NODES, env={"LAUNCHER": launcher}))
    said = next(folder.glob("landscape-sweep-*.log")).read_text()
    assert job["JobState"] == "COMPLETED", said
    assert "surface.h5: 35 points, on 4 ranks." in said
    assert results(folder / "surface.h5") == plain


def test_each_task_computes_a_whole_job(slurm, folder, submit, plain):
    panels = folder / "panels"
    panels.mkdir()
    tiny_job(panels, name="another one.yaml", output__file="other.h5", plane__seed=4)
    array = submit("many-jobs", "job.yaml", "panels/another one.yaml", options=["--array=0-1"])
    assert [task["JobState"] for task in slurm.wait(array)] == ["COMPLETED"] * 2
    assert results(folder / "surface.h5") == plain
    with h5py.File(panels / "other.h5") as file:
        assert (file["complete"][()], file.attrs["seed"]) == (1, 4)
