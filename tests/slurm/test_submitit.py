"""The script of docs/cluster.md that submits shards by submitit, on a SLURM."""

import os
import sys
from pathlib import Path

import pytest

from support.jobs import results, tiny_job
from support.launch import launch

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow]


def test_an_array_of_shards_is_computed_and_merged(slurm, folder, plain, checkout):
    page = (checkout / "docs/cluster.md").read_text()
    script = page.partition("# submit.py\n")[2].partition("```")[0]
    assert 'cluster="local"' in script
    (folder / "submit.py").write_text(script.replace('cluster="local"', 'cluster="slurm"'))
    tiny_job(folder, output__file="s.h5")
    path = f"{Path(sys.executable).parent}{os.pathsep}{slurm.env['PATH']}"
    try:
        run = launch(program=(sys.executable, "submit.py"), cwd=folder, env=slurm.env | {"PATH": path}, timeout=200)
    except TimeoutError as error:  # submitit waits for ever for a job that leaves no result
        texts = [f"--- {log.name}\n{log.read_text()}" for log in sorted(folder.glob("logs/*.[eo]*"))]
        raise TimeoutError("\n".join([str(error), slurm.report(), *texts])) from None
    assert run.returncode == 0, run.stdout + run.stderr
    assert results(folder / "s.h5") == plain
