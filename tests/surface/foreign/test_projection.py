"""Paths that tomgoldstein/loss-landscape projected: what is read, what is refused, how they get onto a surface."""

import h5py
import numpy as np
import pytest
from matplotlib.text import Text

from landscape_mpi.errors import UserError
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.run import read_given
from landscape_mpi.surface.foreign.loss_landscape import read_projection

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
