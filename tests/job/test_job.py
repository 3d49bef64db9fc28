"""The job file: defaults, coordinates, and what makes two jobs the same experiment."""

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError, render
from landscape_mpi.job import TEMPLATE, Axis, SweepJob, TrainJob, difference, read_job
from support.jobs import TINY, changed


def job(**changes):
    document = changed(TINY, {key.replace("__", "."): value for key, value in changes.items()})
    return msgspec.convert(document, SweepJob)


def test_defaults_are_the_contracts():
    values = job(loss=None)
    assert values.loss == "cross_entropy"
    assert values.metrics == ("loss", "accuracy")
    assert (values.data.splits, values.data.limit, values.data.normalize) == (("train", "test"), None, None)
    assert (values.plane.normalize, values.plane.ignore, values.plane.repeats) == ("filter", "biasbn", 1)
    evaluate = values.evaluate
    assert (evaluate.batch, evaluate.dtype, evaluate.batchnorm, evaluate.engine) == ("auto", "float32", "keep", "auto")
    assert evaluate.weights == "auto"


def test_keys_of_the_hessian_that_no_result_depends_on_make_no_other_experiment():
    spectrum, ends = {"metrics": ["loss", "spectrum"]}, {"metrics": ["loss", "hessian"]}
    finer = {"tolerance": 1e-6}
    assert difference(job(**spectrum), job(**spectrum, hessian=finer)) is None
    assert difference(job(**ends), job(**ends, hessian={"probes": 2, "steps": 7, "seed": 1})) is None
    assert render(difference(job(**ends), job(**ends, hessian=finer))).startswith("hessian.tolerance")
    assert render(difference(job(**spectrum), job(**spectrum, hessian={"probes": 2}))).startswith("hessian.probes")
    assert render(difference(job(**ends), job(**ends, hessian={"of": "plane"}))).startswith("hessian.of")


def test_the_hessians_keys_make_another_experiment_only_where_something_asks_for_it():
    five = {"images": 5}
    assert difference(job(), job(hessian=five)) is None
    for asked in ({"metrics": ["loss", "hessian"]}, {"plane": {"kind": "hessian"}}):
        assert difference(job(**asked), job(**asked, hessian={"tolerance": 1e-3})) is None
        assert render(difference(job(**asked), job(**asked, hessian=five))).startswith(
            "hessian.images: the file has 2000 and"
        )


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        job().loss = "mse"


def test_the_template_is_a_sound_job_and_names_every_section(tmp_path):
    values = read_job(TEMPLATE, tmp_path / "job.yaml", SweepJob).values
    assert values.grid.shape == (25, 25)
    assert {"model", "data", "loss", "plane", "grid", "metrics", "evaluate", "output"} <= set(yaml.safe_load(TEMPLATE))


def test_a_train_job_needs_neither_plane_nor_grid(tmp_path):
    text = "model: {build: resnet20}\ndata: {build: shapes10}\ntrain: {output: nets}\n"
    train = read_job(text, tmp_path / "job.yaml", TrainJob).values.train
    assert (train.epochs, train.lr, train.drops) == (300, 0.1, (150, 225, 275))
    with pytest.raises(UserError, match=r"model\.checkpoint: the key is missing"):
        read_job(text + "plane: {kind: random}\ngrid: {alpha: [0, 1, 2]}\noutput: {file: x}", tmp_path / "j", SweepJob)


def test_relative_paths_start_at_the_job_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = read_job(TEMPLATE, tmp_path / "jobs" / "job.yaml", SweepJob)
    assert file.resolve("../nets/a.pt") == tmp_path / "nets" / "a.pt"
    assert str(file.resolve("/somewhere/a.pt")) == "/somewhere/a.pt"


@given(st.floats(-100, 100), st.floats(0.1, 100), st.integers(2, 300))
def test_coordinates_run_from_first_to_last(first, width, points):
    axis = Axis(first=first, last=first + width, points=points)
    values = axis.coordinates()
    assert (values[0], values[-1], len(values)) == (axis.first, axis.last, points)
    assert (np.diff(values) > 0).all()
    np.testing.assert_allclose(values, np.linspace(axis.first, axis.last, points), atol=1e-12)


@given(st.floats(0.01, 100), st.integers(1, 200))
def test_the_middle_of_a_symmetric_axis_is_exactly_zero(last, half):
    assert Axis(first=-last, last=last, points=2 * half + 1).coordinates()[half] == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"output__file": "other.h5"},
        {"model__checkpoint": "copy/of/net.pt"},
        {"data__root": "elsewhere"},
        {"plane__repeats": 5},
        {"evaluate": {"dtype": "float32"}},
        {"evaluate": {"weights": "streamed"}},
        {"train": {"output": "nets"}},
    ],
)
def test_places_and_defaults_spelt_out_are_the_same_experiment(changes):
    assert difference(job(), job(**changes)) is None


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model__build": "resnet20"}, "model.build"),
        ({"model__options": {"width": 9}}, "model.options.width"),
        ({"data__limit": 10}, "data.limit"),
        ({"loss": "mse"}, "loss"),
        ({"plane__seed": 4}, "plane.seed"),
        ({"plane": {"kind": "file", "path": "x"}}, "plane.kind"),
        ({"grid__alpha": [-1, 2, 7]}, "grid.alpha"),
        ({"metrics": ["loss"]}, "metrics"),
        ({"evaluate": {"batch": 32}}, "evaluate.batch"),
        ({"sampling": {"error": 0.05}}, "sampling.error"),
    ],
)
def test_the_first_key_that_differs_is_named(changes, key):
    assert render(difference(job(), job(**changes))).startswith(f"{key}: the file has ")


def test_a_finer_grid_over_the_same_plane_is_named_as_such():
    assert render(difference(job(), job(grid__alpha=[-1, 1, 15]))).endswith("(a finer grid over the same plane)")
    assert render(difference(job(), job(grid__alpha=[-1, 1, 3]))).endswith("(a coarser grid over the same plane)")
    assert "same plane" not in render(difference(job(), job(grid__alpha=[-2, 2, 15])))
