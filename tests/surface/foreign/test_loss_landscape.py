"""Surface files of tomgoldstein/loss-landscape."""

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import read_surface
from plot.made_surfaces import bowl, write_foreign

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)


@pytest.mark.parametrize(("alpha", "beta"), [(ALPHA, BETA), (ALPHA, ALPHA), (BETA, ALPHA)])
def test_values_lie_where_they_were_computed(tmp_path, alpha, beta):
    loss = bowl(alpha, beta)
    surface = read_surface(write_foreign(tmp_path / "g.h5", alpha, beta, {"train_loss": loss, "train_acc": loss + 50}))
    np.testing.assert_array_equal(surface.metrics["train_loss"], loss)
    np.testing.assert_array_equal(surface.metrics["train_acc"], loss + 50)
    assert surface.shape == (beta.size, alpha.size)
    assert surface.complete
    assert surface.job is None


def test_minus_one_means_not_yet(tmp_path):
    loss = bowl(ALPHA, BETA)
    loss[3, 4:] = -1
    surface = read_surface(write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": loss, "train_acc": loss}))
    assert surface.done == 63 - 5
    assert np.isnan(surface.metrics["train_loss"][3, 4:]).all()
    assert np.isfinite(surface.metrics["train_loss"]).sum() == 58


def test_zero_and_nan_are_results(tmp_path):
    loss = bowl(ALPHA, BETA)
    loss[0, 0], loss[1, 1] = 0, np.nan
    surface = read_surface(write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": loss}))
    assert surface.complete
    assert surface.metrics["train_loss"][0, 0] == 0


def test_the_smallest_eigenvalue_waits_as_plus_one(tmp_path):
    smallest, largest = -bowl(ALPHA, BETA), bowl(ALPHA, BETA) + 2
    smallest[0, 1], largest[0, 1] = 1, -1
    surface = read_surface(write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"min_eig": smallest, "max_eig": largest}))
    assert surface.done == 62
    assert np.isnan(surface.metrics["min_eig"][0, 1])
    assert np.nanmax(surface.metrics["min_eig"]) < 0


def test_a_line(tmp_path):
    path = tmp_path / "g.h5"
    with h5py.File(path, "w") as file:
        file["xcoordinates"], file["train_loss"], file["dir_file"] = ALPHA, ALPHA**2, "directions.h5"
    surface = read_surface(path)
    assert surface.is_line
    np.testing.assert_array_equal(surface.metrics["train_loss"], ALPHA**2)
    assert set(surface.metrics) == {"train_loss"}


def test_a_metric_of_another_size(tmp_path):
    path = write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    with h5py.File(path, "r+") as file:
        file["test_loss"] = np.zeros((5, 5))
    with pytest.raises(UserError, match=r"test_loss has shape \(5, 5\).*expected \(7, 9\)"):
        read_surface(path)


def test_a_direction_file_is_no_surface(tmp_path):
    path = tmp_path / "directions.h5"
    with h5py.File(path, "w") as file:
        file["xdirection/0"] = np.zeros(4)
    with pytest.raises(UserError, match=r"directions\.h5: expected a surface, found no xcoordinates"):
        read_surface(path)
