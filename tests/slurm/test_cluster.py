"""The tests' own SLURM: nothing of it outlives its tests, not even where they are killed."""

import os
import sys
from pathlib import Path

import pytest

from support.keeper import marked, with_files_in
from support.launch import kill_session, start
from support.waiting import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]
TESTS = str(Path(__file__).resolve().parents[1])
STARTS = """
import sys, time
from support.slurm import Slurm
slurm = Slurm(nodes=1)
job = slurm.submit("--output=/dev/null", "--wrap=sleep 1000", cwd="/")
slurm.wait(job, "RUNNING")
print(slurm.mark, slurm.folder, flush=True)
if sys.argv[1] == "stopped":
    slurm.stop()
time.sleep(1000)
"""


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_neither_processes_nor_files_are_left(how):
    path = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    run = start(how, program=(sys.executable, "-c", STARTS), env={"PYTHONPATH": path})
    try:
        mark, folder = run.stdout.readline().split()
        if how == "killed":
            assert len(set(marked(mark) + with_files_in(folder))) > 4  # munged, slurmctld, slurmd, slurmstepd, the job
            kill_session(run)
        wait_for(lambda: not Path(folder).exists())
        assert not Path(folder).exists()
        assert marked(mark) + with_files_in(folder) == []
    finally:
        kill_session(run)
