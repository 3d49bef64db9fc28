"""What stops a job early: signals, preemption, limits and scancel; who goes on by itself, and with which points."""

import re
import sys

import pytest

from support.jobs import done, results
from support.slurm import EVERY
from support.waiting import wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]
SLOW = {"TINY_SLEEP": "0.25"}


def said(folder, name):
    return (folder / f"landscape-{name}.log").read_text()


def restarts(job):
    return int(job["Restarts"])


def begun(path, points=2):
    """Wait until a surface or shard has some of its points, and return how many."""
    wait_for(lambda: done(path) >= points)
    assert done(path) >= points
    return done(path)


def hurry(folder):
    """Let runs that start from now on be fast: a requeued job keeps its environment."""
    module = folder / "tiny.py"
    module.write_text(module.read_text().replace("TINY_SLEEP", "NO_SLEEP"))


def gone_on(log):
    """With how many points each run of a log went on, and how many of them it found to do."""
    return [tuple(map(int, found)) for found in re.findall(r"(\d+) points are there, (\d+) to do", log)]


def test_a_warned_task_queues_itself_again_alone_and_goes_on(slurm, folder, submit, plain):
    new_interpreters = SLOW | {"PYTHON": sys.executable}
    array = submit("array", "job.yaml", "2", options=["--array=0-1"], env=new_interpreters)
    merge = submit("merge", "job.yaml", "2", options=[f"--dependency=afterany:{array}"])
    paths = [folder / f"surface.shard-{index}-of-2.h5" for index in range(2)]
    for path in paths:
        begun(path)
    last = f"{array}_1"
    assert slurm.jobs(last)[0]["JobId"] == array  # a number that stands for the whole array too
    slurm.command("scancel", "--batch", "--signal=USR1", last)
    hurry(folder)
    slurm.wait(last, "PENDING")
    kept = done(paths[1])
    assert 2 <= kept < 17
    assert slurm.states(merge) == ["PENDING"]
    slurm.start_requeued(last)
    tasks = {task["ArrayTaskId"]: task for task in slurm.wait(array)}
    assert {task["JobState"] for task in tasks.values()} == {"COMPLETED"}, said(folder, f"array-{array}_1") + str(tasks)
    assert (restarts(tasks["0"]), restarts(tasks["1"])) == (0, 1)
    log = said(folder, f"array-{array}_1")
    assert f"stopped in time: {last} queues itself again" in log
    assert gone_on(log) == [(kept, 17 - kept)]
    assert slurm.wait(merge)[0]["JobState"] == "COMPLETED"
    assert results(folder / "surface.h5") == plain


def test_a_job_that_was_queued_often_enough_ends_with_75(slurm, folder, submit):
    job = submit("sweep", "job.yaml", options=["--ntasks=2"], env=SLOW | {"RESTARTS": "0"})
    begun(folder / "surface.h5")
    slurm.command("scancel", "--batch", "--signal=USR1", job)
    (ended,) = slurm.wait(job)
    assert (ended["JobState"], ended["ExitCode"], restarts(ended)) == ("FAILED", "75:0", 0)
    assert "stopped in time after 0 restarts: sbatch the same again to go on" in said(folder, f"sweep-{job}")


@pytest.mark.parametrize("launcher", ["mpirun", "srun --mpi=pmix"])
def test_a_preempted_job_goes_on_once_its_node_is_free(slurm, folder, submit, plain, launcher):
    options = ["--nodelist=node4", "--nodes=1", "--ntasks=2"]
    job = submit("sweep", "job.yaml", options=options, env=SLOW | {"LAUNCHER": launcher})
    kept = begun(folder / "surface.h5")
    hurry(folder)
    important = ["--partition=high", "--nodelist=node4", "--exclusive", "--output=/dev/null", "--wrap=true"]
    other = slurm.submit(*important, cwd=folder)
    slurm.wait(other)
    slurm.start_requeued(job)
    (ended,) = slurm.wait(job)
    assert (ended["JobState"], restarts(ended)) == ("COMPLETED", 1)
    log = said(folder, f"sweep-{job}")
    assert "queues itself again" not in log  # SLURM did
    ((there, to_do),) = gone_on(log)
    assert there >= kept
    assert there + to_do == 35
    assert results(folder / "surface.h5") == plain


def test_a_time_limit_is_no_end(slurm, folder, submit, plain):
    # SLURM looks at its limits twice per minute, and warns half a minute early rather than late
    options = ["--time=1", "--signal=B:USR1@15", "--ntasks=1"]
    job = submit("sweep", "job.yaml", options=options, env={"TINY_SLEEP": "1"})
    wait_for(lambda: done(folder / "surface.h5") or restarts(slurm.jobs(job)[0]), every=EVERY)
    hurry(folder)
    slurm.wait(job, "PENDING")
    slurm.command("scontrol", "update", f"JobId={job}", "TimeLimit=10")  # once is enough
    kept = done(folder / "surface.h5")  # none where the machine is too busy for a point in this time
    slurm.start_requeued(job)
    assert kept < 35
    (ended,) = slurm.wait(job)
    log = said(folder, f"sweep-{job}")
    assert (ended["JobState"], restarts(ended)) == ("COMPLETED", 1), log
    assert gone_on(log) == ([(kept, 35 - kept)] if kept else [])
    assert results(folder / "surface.h5") == plain


def test_a_cancelled_task_stays_cancelled_and_can_be_filled_later(slurm, folder, submit, plain):
    array = submit("array", "job.yaml", "2", options=["--array=0-1"], env=SLOW)
    merge = submit("merge", "job.yaml", "2", options=[f"--dependency=afterany:{array}"])
    path = folder / "surface.shard-1-of-2.h5"
    kept = begun(path)
    slurm.command("scancel", f"{array}_1")
    assert sorted(task["JobState"] for task in slurm.wait(array)) == ["CANCELLED", "COMPLETED"]
    (part,) = slurm.wait(merge)
    assert (part["JobState"], part["ExitCode"]) == ("FAILED", "75:0")
    assert "sweep job.yaml --shard 1/2" in said(folder, f"merge-{merge}")
    assert "queues itself again" not in said(folder, f"array-{array}_1")
    again = submit("array", "job.yaml", "2", options=["--array=1"])
    merged = submit("merge", "job.yaml", "2", options=[f"--dependency=afterany:{again}"])
    assert slurm.wait(merged)[0]["JobState"] == "COMPLETED"
    ((there, to_do),) = gone_on(said(folder, f"array-{again}_1"))
    assert there >= kept
    assert there + to_do == 17
    assert results(folder / "surface.h5") == plain
