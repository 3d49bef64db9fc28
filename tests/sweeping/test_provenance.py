"""What is recorded of the job's folder, and what that folder must not be able to do."""

import subprocess

import pytest

from support.jobs import tiny_job
from support.launch import launch


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "from elsewhere; touch executed"
    folder.mkdir()
    git(folder, "init", "-q")
    job = tiny_job(folder, grid={"alpha": [-1, 1, 3]}, output__file="$(touch executed) `touch executed`.h5")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "a job")
    return job


@pytest.mark.slow
def test_neither_a_configured_program_nor_a_name_is_run(tmp_path, repository):
    folder, trace = repository.parent, tmp_path / "executed"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    hook.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(hook))
    run = launch("sweep", repository, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert not trace.exists()
    assert (folder / "$(touch executed) `touch executed`.h5").exists()
    assert not [*tmp_path.rglob("executed")]
    subprocess.run(["git", "-C", str(folder), "status"], check=True, capture_output=True)
    assert trace.exists(), "the attack itself is broken"


@pytest.mark.slow
def test_nothing_is_put_where_others_may_write(tmp_path):
    (tmp_path / "temporary").mkdir()
    job = tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]}, data__options={"images": 4000}, sampling={"error": 0.05})
    before = set(tmp_path.iterdir())
    launched = launch("sweep", job, env={"TMPDIR": str(tmp_path / "temporary")})
    assert launched.returncode == 0, launched.stderr
    assert [*(tmp_path / "temporary").iterdir()] == []
    made = [path for new in set(tmp_path.iterdir()) - before for path in (new, *new.rglob("*"))]
    assert {"surface.h5", "surface.h5.lock", "plan.journal", "rank-00000.journal"} <= {path.name for path in made}
    assert not [path for path in made if path.stat().st_mode & 0o002]
