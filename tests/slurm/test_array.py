"""array.sbatch and merge.sbatch: the shares of a surface, and what becomes of them, complete or not."""

import pytest

from support.jobs import done, results

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]


def test_an_array_and_its_merge_make_the_surface_of_a_plain_run(slurm, folder, submit, plain):
    array = submit("array", "job.yaml", options=["--array=0-3"], env={"SHARDS": "4"})
    merge = submit("merge", "job.yaml", options=[f"--dependency=afterany:{array}"], env={"SHARDS": "4"})
    assert [task["JobState"] for task in slurm.wait(array)] == ["COMPLETED"] * 4, logs(folder)
    assert slurm.wait(merge)[0]["JobState"] == "COMPLETED", logs(folder)
    assert "4 of 4 shards are there\nsurface.h5: 35 of 35 done (complete); 35 of them new" in logs(folder)
    assert results(folder / "surface.h5") == plain


def test_a_part_of_an_array_is_merged_and_what_is_missing_refilled(slurm, folder, submit, plain):
    slurm.wait(submit("array", "job.yaml", "3", options=["--array=0,2", "--ntasks=2"]))
    assert (done(folder / "surface.shard-0-of-3.h5"), done(folder / "surface.shard-1-of-3.h5")) == (12, 0)
    (part,) = slurm.wait(submit("merge", "job.yaml", "3"))
    assert (part["JobState"], part["ExitCode"]) == ("FAILED", "75:0")
    assert "2 of 3 shards are there\nsurface.h5: 23 of 35 done (incomplete: 12 to do)" in logs(folder)
    assert "to go on: python -m landscape_mpi sweep job.yaml --shard 1/3    # 12 points" in logs(folder)
    array = submit("array", "job.yaml", "3", options=["--array=1"])
    (whole,) = slurm.wait(submit("merge", "job.yaml", "3", options=[f"--dependency=afterany:{array}"]))
    assert whole["JobState"] == "COMPLETED", logs(folder)
    assert results(folder / "surface.h5") == plain


MISTAKES = [
    ("merge", ["job.yaml"], [], "no shard of 8 of surface.h5 is there: nothing to merge"),
    ("merge", ["job.yaml", "many"], [], "expected I/N with I from 0 to N - 1"),
    ("merge", ["other.yaml"], [], "other.yaml"),
    ("array", ["job.yaml"], [], "--shard: found auto, and none of SLURM_ARRAY_TASK_ID"),
    (
        "array",
        [],
        ["--array=0"],
        "found 0 arguments; expected: sbatch --array=0-7 slurm/array.sbatch JOB.YAML",
    ),
    ("sweep", ["job.yaml", "8"], [], "found 2 arguments; expected: sbatch slurm/sweep.sbatch JOB.YAML"),
    ("many-jobs", ["job.yaml"], ["--array=1"], "there is no job file for task 1: found 1, counted from 0"),
    ("many-jobs", ["job.yaml"], [], "found no array; expected: sbatch --array=0-0 slurm/many-jobs.sbatch JOB.YAML..."),
]


def test_mistakes_are_sentences_and_leave_nothing(slurm, folder, submit):
    before = set(folder.iterdir())
    for script, arguments, options, sentence in MISTAKES:
        (job,) = slurm.wait(submit(script, *arguments, options=[*options, "--output=said.log", "--open-mode=truncate"]))
        said = (folder / "said.log").read_text()
        assert (job["JobState"], job["ExitCode"]) == ("FAILED", "2:0"), said
        assert sentence in said
    (job,) = slurm.wait(submit("sweep", "job.yaml", options=["--output=said.log"], env={"PYTHON": "nowhere/python"}))
    assert job["ExitCode"] == "2:0"
    assert "there is no nowhere/python; activate the environment before sbatch" in (folder / "said.log").read_text()
    assert set(folder.iterdir()) - before == {folder / "said.log"}


def logs(folder):
    """What all jobs of a folder said."""
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))
