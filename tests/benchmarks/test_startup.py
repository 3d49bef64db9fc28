"""The benchmark of the start: its steps are the sweep's own, and add up."""

import json
import sys
import time

import numpy as np
import pytest

from landscape_mpi.surface import NewSurface, Record, create_surface, open_writer
from support.jobs import tiny_job
from support.launch import launch


@pytest.fixture
def startup(benchmark_named):
    return benchmark_named("startup")


def ends(startup, begun, each):
    """The moments of a rank whose every step takes `each` seconds, half of them on a core."""
    return {step: (begun + each * n, each * n / 2) for n, step in enumerate(startup.STEPS, 1)}


def test_steps_add_up_to_the_first_point_of_all_ranks(startup):
    idle = ends(startup, 100.0, 2.0)
    del idle[startup.POINT]
    found = startup.steps(100.0, [ends(startup, 100.0, 3.0), ends(startup, 100.0, 1.0), idle])
    assert [step.name for step in found] == list(startup.STEPS)
    assert sum(step.wall for step in found) == pytest.approx(len(startup.STEPS))
    assert [step.cpu for step in found[:-1]] == pytest.approx([1.0] * (len(found) - 1))


@pytest.mark.slow
def test_every_step_is_noted_in_a_real_sweep(startup, checkout, tmp_path):
    moments = tmp_path / "moments"
    moments.mkdir()
    program = [sys.executable, str(checkout / "benchmarks" / "watched.py"), str(moments)]
    run = launch("sweep", tiny_job(tmp_path), program=program)
    assert run.returncode == 0, run.stderr
    (noted,) = (json.loads(path.read_text()) for path in moments.iterdir())
    assert [*noted] == list(startup.STEPS)
    assert sorted(noted.values()) == [*noted.values()]


def test_the_first_point_is_seen_once_it_is_done_and_not_before(startup, tmp_path):
    surface = tmp_path / "surface.h5"
    create_surface(surface, NewSurface((np.arange(3.0),), ("train_loss",), ([],), "", {}))
    with pytest.raises(TimeoutError, match="no point was done"):
        startup.first_point(surface, time.time())
    writer = open_writer(surface, None, root=True)
    writer.at_root(Record((1,), {"train_loss": 2.0}, 0, 0.1))
    assert startup.first_point(surface, time.time()) > 0
