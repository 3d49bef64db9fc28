"""Files of tomgoldstein/loss-landscape: surfaces, and paths that it projected, which are drawn on a surface."""

import h5py
import numpy as np
import pytest
from matplotlib.text import Text

from landscape_mpi.errors import UserError
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.run import read_given
from landscape_mpi.surface.foreign.loss_landscape import read_projection
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


X, Y = np.array([-0.4, 0.3, 0.1, 0.0]), np.array([-0.9, -0.4, 0.2, 0.0])


@pytest.fixture
def projected(tmp_path):
    """A function that writes a projection file."""

    def write(**columns):
        path = tmp_path / "projection.h5"
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
        return path

    return write


@pytest.fixture
def theirs(tmp_path):
    """A surface as they write it."""
    path = tmp_path / "surface.h5"
    axis = np.linspace(-1, 1, 5)
    with h5py.File(path, "w") as file:
        file["xcoordinates"] = file["ycoordinates"] = axis
        file["train_loss"] = axis**2 + axis[:, None] ** 2 + 0.1
    return path


def test_a_path_has_its_coordinates_and_knows_nothing_else(projected):
    path = read_projection(projected(proj_xcoord=X, proj_ycoord=Y))
    np.testing.assert_array_equal([path.alpha, path.beta, path.epoch], [X, Y, np.arange(4)])
    assert np.isnan([path.residual, path.train_loss, path.lr]).all()
    assert path.drops.size == 0


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"proj_xcoord": X}, "found proj_xcoord; expected proj_xcoord and proj_ycoord"),
        ({}, "found no datasets"),
        ({"proj_xcoord": X, "proj_ycoord": Y[:3]}, "proj_ycoord (3,); expected two rows of finite numbers"),
        ({"proj_xcoord": np.array([0.5, np.inf, 0, 0]), "proj_ycoord": Y}, "finite"),
        ({"proj_xcoord": X.reshape(2, 2), "proj_ycoord": Y.reshape(2, 2)}, "two rows"),
        ({"proj_xcoord": [], "proj_ycoord": []}, "two rows"),
        ({"proj_xcoord": "text", "proj_ycoord": Y}, "expected numbers"),
    ],
)
def test_anything_else_is_refused(projected, columns, said):
    with pytest.raises(UserError) as raised:
        read_projection(projected(**columns))
    assert said in str(raised.value)
    assert "projection.h5" in str(raised.value)


@pytest.mark.slow
def test_it_is_drawn_on_their_surface(theirs, projected):
    (surface,) = read_given([theirs], [projected(proj_xcoord=X, proj_ycoord=Y)])
    figure = compose([surface], Options())
    found = {artist.get_gid(): artist for artist in figure.axes[0].get_children()}
    np.testing.assert_array_equal(found["path"].get_segments()[0], np.column_stack([X, Y]))
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "path of 4 checkpoints" in " ".join(words.split())
    assert "nan" not in words


def test_every_surface_has_one_or_none_has(theirs, projected):
    with pytest.raises(UserError, match=r"^--trajectory: found 1 of them for 2 surfaces; expected one each"):
        read_given([theirs, theirs], [projected(proj_xcoord=X, proj_ycoord=Y)])


def test_a_line_has_no_room_for_a_path(tmp_path, projected):
    path = tmp_path / "line.h5"
    with h5py.File(path, "w") as file:
        file["xcoordinates"], file["train_loss"] = X[[0, 3, 2, 1]], Y
    with pytest.raises(UserError, match=r"^--trajectory: .*line.h5 is a line; expected a plane"):
        read_given([path], [projected(proj_xcoord=X, proj_ycoord=Y)])
