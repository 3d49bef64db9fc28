"""Surfaces and plans that only look like those of the job are refused before anything is computed or written."""

import re

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.files import isolated
from landscape_mpi.job import Axis, SweepJob, read_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import NewSurface, create_surface
from landscape_mpi.surface.identity import Identity
from landscape_mpi.surface.plan import PLAN, PlanLog
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.resume import find_surface
from landscape_mpi.sweeping.run import sweep
from landscape_mpi.sweeping.sampled import climbs
from support import tiny
from support.jobs import LINE_JOB as JOB
from support.jobs import tiny_job
from support.launch import kill_session, launch, start
from support.waiting import wait_for


@pytest.fixture
def found(tmp_path, path):
    """Returns the surface that the job goes on with."""
    job = read_job(JOB, tmp_path / "job.yaml", SweepJob).values
    return lambda: find_surface(path, job, Identity(0, {}))


@pytest.fixture
def path(tmp_path):
    names = ("train_loss", "train_loss_stderr")
    fixed = {"seed": 0, "batch": 8, "engine": "eager"}
    create_surface(tmp_path / "s.h5", NewSurface((Axis(-1, 1, 8).coordinates(),), names, ([],), JOB, fixed))
    return tmp_path / "s.h5"


def test_a_sound_surface_is_found(path, found):
    assert found().points == 8


HOSTILE = {
    "error": (None, "`error` is missing; expected |S200 [8], as in every surface that a sweep has begun"),
    "seconds": (np.zeros(8, np.float32), "`seconds` is <f4 [8]; expected <f8 [8]"),
    "train_loss_stderr": (None, "`train_loss_stderr` is missing"),
    "complete": (np.zeros(9, np.uint8), "complete has 9 values; expected 1"),
    "finished": (None, "`finished` is missing"),
    "rounds": (np.float64(3), "`rounds` is <f8 []; expected <i8 []"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_surface_that_could_not_be_written_into_is_refused(path, found, name):
    value, words = HOSTILE[name]
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value
    with pytest.raises(UserError, match=re.escape(words)):
        found()


@pytest.mark.parametrize(("name", "value"), [("batch", -1), ("batch", "x"), ("engine", "os:system"), ("engine", None)])
def test_a_surface_that_does_not_say_how_it_goes_on_is_refused(path, found, name, value):
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    with pytest.raises(UserError, match=r"expected a whole number >= 1 and one of .*eager"):
        found()


def flipped(values):
    values.view(np.uint8).reshape(-1, 8)[5, 0] ^= 1
    return values


@pytest.mark.parametrize(
    ("change", "place"), [(flipped, 5), (lambda values: values[::-1], 0), (lambda values: values + 0.5, 0)]
)
def test_coordinates_that_are_not_those_of_the_job_to_the_bit_are_refused(path, found, change, place):
    with h5py.File(path, "r+") as file:
        file["xcoordinates"][...] = change(file["xcoordinates"][()])
    with pytest.raises(
        UserError, match=rf"`xcoordinates` are not those of its job: found \S+ at place {place}, expected"
    ):
        found()


@pytest.mark.parametrize("schema", [99, 0, -1, "1", 1.0, None])
def test_a_schema_that_this_version_does_not_know_is_refused(path, found, schema):
    with h5py.File(path, "r+") as file:
        del file.attrs["schema"]
        if schema is not None:
            file.attrs["schema"] = schema
    with pytest.raises(UserError, match=f"is of schema {schema}, and this version of landscape_mpi reads 1 to 2"):
        found()


ROUNDS = {
    "a point beyond the grid": [[(8, 1)]],
    "a level beyond the last": [[(0, 3)]],
    "the first level, where every point begins": [[(0, 0)]],
    "a level twice": [[(0, 1)], [(1, 1), (0, 1)]],
    "a point twice": [[(0, 1), (0, 2)]],
    "a round without a point": [[(0, 1)], []],
}


@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_that_no_sweep_of_eight_points_and_three_levels_has(name):
    assert climbs([[(0, 1), (7, 2)], [(0, 2)]], points=8, levels=3)
    assert not climbs(ROUNDS[name], points=8, levels=3)


@pytest.mark.slow
def test_a_plan_that_is_not_of_this_grid_is_refused(tmp_path):
    sampled = {"data__options": {"images": 4000}, "sampling": {"error": 0.02}}
    job, folder = tiny_job(tmp_path, **sampled), tmp_path / "surface.h5.examples"
    process = start("sweep", job, env={"TINY_SLEEP": "0.02"})
    wait_for(lambda: (folder / "plan.journal").exists() or process.poll() is not None)
    kill_session(process)
    identity = (folder / "plan.journal").read_bytes()[len(PLAN.magic) :][:32]
    with PlanLog(folder, identity) as log:
        log.add(0, [(10**6, 1)])
    before = (folder / "plan.journal").read_bytes()
    run = launch("sweep", job)
    assert run.returncode == 2
    assert "surface.h5.examples: its plan is not one of this sweep's 35 points and [4000, 4000] examples" in run.stderr
    assert (folder / "plan.journal").read_bytes() == before


PLANES = {"file": ({"kind": "file", "path": "directions.h5"}, 1), "random": ({"kind": "random"}, 2)}
"""A plane, and how often its surface is read: twice where it may hold directions that an earlier version drew."""


@pytest.mark.parametrize("name", PLANES)
def test_a_sweep_that_goes_on_reads_its_surface_once(tmp_path, monkeypatch, name):
    plane, times = PLANES[name]
    with h5py.File(tmp_path / "directions.h5", "w") as file:
        for i, (weight, tensor) in enumerate(tiny.network().state_dict().items()):
            file.create_dataset(f"xdirection/{i}", data=np.ones(tensor.shape, np.float32)).attrs["name"] = weight
    job = tiny_job(tmp_path, plane=plane, grid={"alpha": [-1, 1, 3]})
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    with h5py.File(tmp_path / "surface.h5", "r+") as file:
        file["status"][0] = file["complete"][()] = 0
    read = []
    for way in ("_forked", "_served"):
        monkeypatch.setattr(isolated, way, noting(getattr(isolated, way), read))
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    assert read.count(tmp_path / "surface.h5") == times


def noting(way, read):
    """Return a way to read files that notes which ones."""

    def noted(seconds, function, arguments):
        read.append(arguments[0])
        return way(seconds, function, arguments)

    return noted
