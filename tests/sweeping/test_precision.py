"""Precisions below float32: allowed where asked for, measured, recorded; float32 stays as strict as it was."""

import math
import warnings

import h5py
import numpy as np
import pytest
import torch

from landscape_mpi.assemble import allow_tf32
from landscape_mpi.sweeping.precision import PRECISIONS, Tolerance, deviation, difference
from support.jobs import results, tiny_job
from support.launch import launch


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """The tiny job in float32 and in bfloat16, and what the second said."""
    folder = tmp_path_factory.mktemp("precisions")
    assert launch("sweep", tiny_job(folder, output__file="float32.h5")).returncode == 0
    run = launch("sweep", tiny_job(folder, output__file="bfloat16.h5", evaluate={"dtype": "bfloat16"}))
    assert run.returncode == 0, run.stderr
    return folder / "float32.h5", folder / "bfloat16.h5", run.stderr


def losses(path):
    with h5py.File(path) as file:
        return file["train_loss"][()], file["test_loss"][()], dict(file.attrs)


@pytest.mark.slow
def test_what_bfloat16_costs_is_measured_recorded_and_said(surfaces):
    (exact, exact_test, of_float32), (low, low_test, of_bfloat16) = map(losses, surfaces[:2])
    error = of_bfloat16["precision_error"]
    assert of_bfloat16["dtype"] == "bfloat16"
    assert f"bfloat16: the maximum relative error of mean losses against float32 is {error:.2g}" in surfaces[2]
    # the surface itself: the point nearest the centre is not on the grid, the far corner is at alpha = -1 and beta = 1
    assert np.all(low != exact)
    at_corner = max(abs(a / b - 1)[-1, 0] for a, b in ((low, exact), (low_test, exact_test)))
    assert error >= (1 - 1e-6) * at_corner > 1e-5
    assert error < 0.05
    assert "precision_error" not in of_float32


@pytest.mark.slow
def test_bfloat16_loses_digits_and_no_more(surfaces):
    exact, low = (losses(path)[0] for path in surfaces[:2])
    deviations = np.abs(low / exact - 1)
    assert 1e-4 < deviations.max() < 0.05


@pytest.mark.slow
def test_a_surface_goes_on_in_the_precision_it_was_begun_with(surfaces, tmp_path):
    job = tiny_job(tmp_path, evaluate={"dtype": "bfloat16"}, grid={"alpha": [-1, 1, 3]})
    assert launch("sweep", job).returncode == 0
    before = results(tmp_path / "surface.h5")
    with h5py.File(tmp_path / "surface.h5", "r+") as file:
        file["status"][1], file["complete"][()] = 0, 0
        file["train_loss"][1] = np.nan
    assert launch("sweep", job).returncode == 0
    assert results(tmp_path / "surface.h5") == before
    other = launch("sweep", tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]}))
    assert other.returncode == 2
    assert "evaluate.dtype: the file has bfloat16 and the job says float32" in other.stderr


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float32_and_float64_keep_their_tolerance(dtype):
    assert PRECISIONS[dtype].tolerance == Tolerance(1e-5, 1e-8)
    assert not PRECISIONS[dtype].reduced


def test_tf32_is_a_switch_for_convolutions_and_products_that_warns_of_nothing():
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for allowed in (True, False):
            allow_tf32(allowed)
            assert [switch.allow_tf32 for switch in switches] == [allowed, allowed]


@pytest.mark.parametrize(
    ("plain", "ours", "same"),
    [
        (1.0, 1.0 + 0.9e-5, True),
        (1.0, 1.0 + 1.1e-5, False),
        (0.0, 0.9e-8, True),
        (0.0, 1.1e-8, False),
        (math.nan, math.nan, True),
        (math.inf, math.inf, True),
        (1.0, math.nan, False),
        (1.0, math.inf, False),
        (math.inf, 1.0, False),
    ],
)
def test_when_two_losses_are_the_same(plain, ours, same):
    assert Tolerance(1e-5, 1e-8).same(plain, ours) == same
    reason = difference({"test_loss": plain}, {"test_loss": ours}, Tolerance(1e-5, 1e-8))
    assert (reason is None) == same
    assert same or reason.startswith("the plain test loss is")


def test_the_deviation_is_the_largest_of_the_losses():
    exact = {"train_loss": 2.0, "train_acc": 50.0, "test_loss": math.inf, "train_loss_stderr": 1.0}
    assert deviation(exact, {**exact, "train_loss": 2.5, "train_acc": 99.0, "train_loss_stderr": 9.0}) == 0.25
    assert deviation(exact, exact) == 0.0
    assert deviation(exact, {**exact, "test_loss": math.nan}) == math.inf
