"""Arguments of a call -> a job that says the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.api.call import grid_of, in_arguments, job_of
from landscape_mpi.errors import Either, Flag, Key, UserError
from landscape_mpi.job import SweepJob, read_job

ENDS = st.floats(-1e6, 1e6, allow_subnormal=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def job(file="/there/s.h5", **changes):
    usual = {
        "model": {"build": "m:N", "checkpoint": "theta*"},
        "data": {"build": "python:3 train examples", "splits": ["train"]},
        "loss": "mse",
        "plane": {"kind": "random"},
        "grid": {"alpha": [0, 1, 2]},
        "metrics": ["loss"],
        "evaluate": {"dtype": "float32"},
        "hessian": None,
        "output": {"file": "surface.h5"},
    }
    return job_of(usual | changes, Path(file))


@pytest.mark.slow
@given(
    low=ENDS, width=st.floats(1e-3, 1e6), points=st.integers(2, 99), seed=st.integers(0, 2**62), name=TEXTS, path=TEXTS
)
def test_the_text_of_the_job_says_what_the_arguments_say(low, width, points, seed, name, path):
    axis = [low, np.float64(low + width), np.int64(points)]
    made = job(
        grid={"alpha": axis, "beta": axis},  # the same list twice: jobs have no aliases
        plane={"kind": "random", "seed": seed, "trajectory": Path("x" + path.replace("\0", "0"))},
        loss=name,
        sampling={"error": 0.1},
    )
    again = read_job(made.text, Path("job.yaml"), SweepJob).values
    assert (again.grid, again.plane, again.loss, again.sampling) == (
        made.values.grid,
        made.values.plane,
        name,
        made.values.sampling,
    )
    assert (again.grid.beta.first, again.grid.beta.last, again.grid.beta.points) == (low, low + width, points)
    assert again.plane.seed == seed


@pytest.mark.parametrize(
    ("kind", "asked", "given"),
    [
        ("pca", 9, {"points": 9}),
        ("pca", None, None),
        ("random", 9, {"alpha": [-1.0, 1.0, 9], "beta": [-1.0, 1.0, 9]}),
        ("pca", (9, 5), {"alpha": [-1.0, 1.0, 9], "beta": [-1.0, 1.0, 5]}),
    ],
)
def test_a_number_of_points_for_a_path_leaves_its_ranges_open(kind, asked, given):
    assert grid_of(asked, kind, 2) == given


def test_a_file_that_is_not_kept_is_not_named_in_the_text():
    assert job().values.output.file == "/there/s.h5"
    assert "/there" not in job().text
    assert "file: /else/t.h5" in job(output={"file": "/else/t.h5"}).text


def test_what_is_left_out_has_the_defaults_of_a_job():
    text = "{model: {build: m:N, checkpoint: c}, data: {build: d, splits: [train]}, plane: {kind: random}, loss: mse,"
    text += " grid: {alpha: [0, 1, 2]}, metrics: [loss], output: {file: f}}"
    written, made = read_job(text, Path("job.yaml"), SweepJob).values, job().values
    for section in ("plane", "grid", "hessian", "evaluate", "sampling"):
        assert getattr(made, section) == getattr(written, section)


def test_what_yaml_does_not_know_is_refused():
    with pytest.raises(UserError, match=r"^plane\.only\[1\]: found a object; expected text, a number"):
        job(plane={"kind": "random", "only": ["a", object()]})


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (Key("evaluate.batch"), "batch_size"),
        (Key("evaluate.batchnorm"), "batchnorm"),
        (Key("plane.to"), "plane.to"),
        (Key("data.splits"), "data"),
        (Key("metrics", ("loss",)), 'metrics=["loss"]'),
        (Flag("overwrite"), "overwrite=True"),
        (Flag("linear"), "linear"),
        (Flag("kind", ("heat",)), 'kind="heat"'),
        (Either("name data.normalize", "scale them"), "scale them"),
    ],
)
def test_errors_name_arguments(term, words):
    error = in_arguments(UserError(term, "is wrong", remedy=("change ", term), details="why"))
    assert str(error) == f"{words}: is wrong; change {words}."
    assert error.details == "why"


def test_a_value_that_does_not_fit_is_refused_in_the_words_of_the_call():
    with pytest.raises(UserError) as found:
        job(evaluate={"batch": 0})
    assert str(in_arguments(found.value)) == "batch_size: found 0; expected a whole number >= 1."
