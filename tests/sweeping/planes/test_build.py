"""Planes by their kind: each kind of a job has a builder, and each repeat a seed and a file of its own."""

from typing import get_args

import pytest
import torch

from landscape_mpi.job import HessianPlane, Plane, SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import RandomDirections
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.planes import hessian
from landscape_mpi.sweeping.planes.build import BUILDERS, build_plane, output_path, repeats
from support.jobs import tiny_job


def loaded(folder, plane, **changes):
    job = load_job(tiny_job(folder, plane=plane, **changes), SweepJob)
    return job, load_experiment(job, JobSource(job), "cpu", Solo())


def test_each_kind_of_plane_has_a_builder():
    assert set(BUILDERS) == set(get_args(Plane))


def test_each_repeat_has_the_next_seed_and_a_file_of_its_own(tmp_path):
    job, experiment = loaded(tmp_path, {"kind": "random", "seed": 5, "repeats": 2})
    assert repeats(job.values) == 2
    assert [output_path(job, repeat).name for repeat in range(2)] == ["surface.r0.h5", "surface.r1.h5"]
    for repeat in range(2):
        _, plane, identity = build_plane(Solo(), experiment, repeat, None)
        assert identity.seed == 5 + repeat
        drawn = RandomDirections(5 + repeat, "filter", "biasbn").draw(plane.theta, 1)
        assert all(torch.equal(tensor, drawn[name]) for name, tensor in plane.directions[1].items())


def test_eigenvectors_are_not_searched_for_where_random_directions_may_stand_in(tmp_path, monkeypatch):
    _, experiment = loaded(tmp_path, {"kind": "hessian"})
    monkeypatch.setitem(BUILDERS, HessianPlane, lambda *_: pytest.fail("a search began"))
    _, plane, identity = build_plane(Solo(), experiment, 0, None, search=False)
    assert (identity.seed, identity.facts) == (-1, {})
    assert plane.norms[0] > 0
    monkeypatch.undo()
    assert BUILDERS[HessianPlane] is hessian.build
    _, _, identity = build_plane(Solo(), experiment, 0, None)
    assert identity.facts["hessian_max_eig"] > identity.facts["hessian_min_eig"]


def test_no_range_stands_in_for_one_that_is_to_be_looked_for(tmp_path):
    _, experiment = loaded(tmp_path, {"kind": "random"}, grid={"alpha": "auto", "points": 3})
    with pytest.raises(ValueError, match="expected one for what the search evaluates"):
        build_plane(Solo(), experiment, 0, None)
    there, _, _ = build_plane(Solo(), experiment, 0, None, search=False)
    assert there.job.values.chosen_grid.coordinates()[0].tolist() == [-1, 0, 1]
