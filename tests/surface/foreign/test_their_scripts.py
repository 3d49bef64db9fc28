"""What the scripts of tomgoldstein/loss-landscape (plot_1D.py, plot_2D.py, h52vtp.py) ask of a file, of a file of ours.

They open it with h5py's defaults and take datasets at the root as they are, with no status and no attribute.
"""

import h5py
import numpy as np
import pytest

from landscape_mpi.metrics.registry import asked, result_names
from landscape_mpi.surface import NewSurface, Record, Rows, create_surface, open_writer
from plot.made_surfaces import JOB, bowl

ALPHA, BETA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)
NAMES = (*result_names(["train", "test"], asked(["loss", "accuracy"])), "min_eig", "max_eig")
DELTA = [
    Rows("conv.weight", (2, 3), [np.full((2, 3), 0.5, np.float32)]),
    Rows("conv.bias", (2,), [np.arange(2, dtype=np.float32)]),
]


def value(name, loss):
    """A known result for each name, none of them like another."""
    return loss + NAMES.index(name)


@pytest.fixture
def swept(tmp_path):
    """Write a surface as a sweep does, all of it or but for the last point."""

    def made(beta, *, complete=True):
        path = tmp_path / "s.h5"
        axes = (ALPHA,) if beta is None else (ALPHA, beta)
        create_surface(path, NewSurface(axes, NAMES, (DELTA,) * len(axes), JOB))
        losses = ALPHA**2 if beta is None else bowl(ALPHA, beta)
        writer = open_writer(path, None, root=True)
        for index in list(np.ndindex(losses.shape))[: None if complete else -1]:
            writer.at_root(Record(index, {name: value(name, float(losses[index])) for name in NAMES}, 0, 0.1))
        writer.finish(lambda: None, complete=complete)
        return path, losses

    return made


@pytest.mark.parametrize("beta", [BETA, ALPHA], ids=["rectangular", "square"])
def test_a_plane_fits_the_mesh_of_its_coordinates(swept, beta):
    path, losses = swept(beta)
    with h5py.File(path, "r") as file:
        mesh = np.meshgrid(file["xcoordinates"][:], file["ycoordinates"][:])
        for name in NAMES:
            found = np.array(file[name][:])
            assert found.shape == mesh[0].shape
            np.testing.assert_array_equal(found, value(name, losses))
        np.testing.assert_allclose(file["train_loss"][:].ravel(), bowl(mesh[0][0], mesh[1][:, 0]).ravel())
        ratio = np.absolute(np.divide(file["min_eig"][:], file["max_eig"][:]))
        assert ratio.shape == (beta.size, ALPHA.size)


def test_a_line_has_every_curve(swept):
    path, losses = swept(None)
    with h5py.File(path, "r") as file:
        assert "ycoordinates" not in file
        for name in ("train_loss", "train_acc", "test_loss", "test_acc"):
            assert file[name][:].shape == file["xcoordinates"][:].shape
            np.testing.assert_array_equal(file[name][:], value(name, losses))


def test_a_point_that_is_not_done_is_no_value_they_would_draw(swept):
    """They take -1 (and +1 of min_eig) for a value like any other when they draw."""
    path, _ = swept(BETA, complete=False)
    with h5py.File(path, "r") as file:
        for name in NAMES:
            assert np.isnan(file[name][-1, -1])
            assert np.isfinite(file[name][:].ravel()[:-1]).all()


@pytest.mark.parametrize("group", ["xdirection", "ydirection"])
def test_directions_are_numbered_in_order(swept, group):
    path, _ = swept(BETA)
    with h5py.File(path, "r") as file:
        found = [file[group][str(i)] for i in range(len(file[group]))]
        for rows, dataset in zip(DELTA, found, strict=True):
            np.testing.assert_array_equal(dataset, rows.pieces[0])
