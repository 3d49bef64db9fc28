"""Barriers: known answers, and what cannot be known."""

import json
import math

import h5py
import numpy as np
import pytest

from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content
from landscape_mpi.surface.barrier import barrier, barriers
from landscape_mpi.surface.export import export
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.status import describe
from plot.made_surfaces import write

ALPHA = np.linspace(-0.5, 1.5, 9)
JOB = """\
model: {build: resnet20, checkpoint: net.pt}
data: {build: shapes10}
plane: {kind: interpolate, to: other.pt}
grid: {alpha: [-0.5, 1.5, 9]}
output: {file: s.h5}
"""


def test_a_parabola_above_a_slope():
    """a (1 - a) 4 h + 2 + 3 a: h at the middle, whatever lies beyond the ends."""
    for alpha in (ALPHA, ALPHA[::-1]):
        losses = 4 * 0.7 * alpha * (1 - alpha) + 2 + 3 * alpha
        found = barrier(losses, np.full(9, 0.1), alpha)
        assert (found.height, found.alpha) == (pytest.approx(0.7), 0.5)
        assert (found.start, found.end, found.points) == (pytest.approx(2), pytest.approx(5), 5)
        assert found.error == pytest.approx(0.2)


def test_a_loss_below_the_line_has_no_barrier():
    """Its error is that of the highest point between the ends, here 0.25: 0.4 + 0.75 * 1 + 0.25 * 1."""
    errors = np.ones(9)
    errors[3] = 0.4
    found = barrier(ALPHA**2, errors, ALPHA)
    assert (found.height, found.error) == (0.0, pytest.approx(1.4))


def test_of_two_points_nobody_knows_the_error():
    found = barrier(np.array([1.0, 2.0]), np.ones(2), np.array([0.0, 1.0]))
    assert (found.height, found.points) == (0.0, 2)
    assert math.isnan(found.error)


def test_an_infinite_loss_is_an_infinite_barrier():
    losses = np.where(ALPHA == 0.5, np.inf, 1.0)
    assert barrier(losses, None, ALPHA).height == math.inf


@pytest.mark.parametrize("place", [2, 4, 6])
def test_a_point_that_is_missing_leaves_it_unknown(place):
    losses = np.ones(9)
    losses[place] = np.nan
    assert math.isnan(barrier(losses, None, ALPHA).height)


def test_without_points_at_both_ends_there_is_none():
    assert barrier(np.ones(4), None, np.linspace(0, 0.9, 4)) is None


def test_info_says_it_of_an_interpolation_alone(tmp_path):
    metrics = {"train_loss": 1 + ALPHA * (1 - ALPHA), "train_loss_stderr": np.full(9, 0.01)}
    path = write(tmp_path / "s.h5", ALPHA, None, metrics, job=JOB)
    said = (
        "train_loss: 0.25 at alpha 0.5 (standard error at most 0.02, of the three losses'), above the line from 1 to 1"
    )
    assert said in describe(path)
    page = content([read_surface(path)], Options())
    assert f"barrier of {said}, at 5 points" in page["surfaces"][0]["facts"]
    other = JOB.replace("kind: interpolate, to: other.pt", "kind: random")
    assert "  barrier" not in describe(write(tmp_path / "r.h5", ALPHA, None, metrics, job=other))


def test_of_a_plane_it_is_that_along_beta_0(tmp_path):
    beta = np.array([-1.0, 0.0, 1.0])
    losses = (1 + ALPHA * (1 - ALPHA)) + 7 * beta[:, None]
    found = barriers(read_surface(write(tmp_path / "s.h5", ALPHA, beta, {"train_loss": losses})))
    assert found["train_loss"].height == pytest.approx(0.25)
    shifted = write(tmp_path / "t.h5", ALPHA, beta + 0.5, {"train_loss": losses})
    assert barriers(read_surface(shifted)) == {}


def test_exports_have_the_barriers_as_attributes(tmp_path):
    """A rise of 2 on the straight line and of 0.5 along the curve; of the accuracy there is none."""
    rise = 4 * ALPHA * (1 - ALPHA)
    losses = np.stack([1 + 2 * rise, 1 + 0.5 * rise])
    metrics = {"test_loss": losses, "test_loss_stderr": 0 * losses + 0.01, "test_acc": losses}
    job = JOB.replace("interpolate, to: other.pt", "curve, to: other.pt, coordinates: curve")
    job = job.replace("9]}", "9], beta: [0, 1, 2]}")
    plane = write(tmp_path / "s.h5", ALPHA, np.array([0.0, 1.0]), metrics, job=job)
    expected = {}
    for way, height in (("straight", 2.0), ("curve", 0.5)):
        ended = {"": height, "_alpha": 0.5, "_stderr": 0.02}
        expected |= {f"{way}_barrier_test_loss{end}": pytest.approx(value) for end, value in ended.items()}
    for name in ("out.npz", "out.nc", "out.zarr"):
        export(plane, tmp_path / name)
    with np.load(tmp_path / "out.npz") as arrays:
        found = {"npz": json.loads(arrays["attributes"].item())}
    with h5py.File(tmp_path / "out.nc") as file:
        found["nc"] = dict(file.attrs)
    found["zarr"] = json.loads((tmp_path / "out.zarr/zarr.json").read_text())["attributes"]
    for attributes in found.values():
        assert {name: value for name, value in attributes.items() if "barrier" in name} == expected
