"""A real SLURM says when a job or a task of an array ends, whether its environment or squeue has to be asked."""

import sys

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
ASK = "import os, time; from landscape_mpi.mpi.shutdown import job_end; print(job_end(os.environ) - time.time())"


@pytest.mark.parametrize("array", [[], ["--array=2"]], ids=["job", "task"])
def test_the_end_is_the_time_limit_after_the_start(slurm, tmp_path, array):
    script = tmp_path / "ask.sbatch"
    script.write_text(f"#!/bin/bash\n{sys.executable} -c '{ASK}'\n")
    number = slurm.submit("--time=7", "--output=said", *array, script, cwd=tmp_path)
    (job,) = slurm.wait(number)
    said = (tmp_path / "said").read_text()
    assert job["JobState"] == "COMPLETED", said
    assert 300 < float(said) <= 421
