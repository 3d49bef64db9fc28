"""The path of a training run in a surface file: written, read back, and refused where it is no path."""

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.surface import NewSurface, Trajectory, create_surface, read_surface
from landscape_mpi.surface.status import describe
from landscape_mpi.surface.training import joined, on_slice

COLUMNS = ("residual", "epoch", "train_loss", "lr")


def path(beta=True, explained=(0.75, 0.125)):
    values = np.array([2.0, 1.0, 0.5, 0.0])
    rates = np.array([math.nan, 0.1, 0.1, 0.01])
    coordinates = (values, -values) if beta else (values,)
    return Trajectory(coordinates, values / 4, np.arange(4), values, rates, explained)


def written(folder, trajectory):
    alpha = np.linspace(-1, 1, 3)
    beta = None if trajectory and trajectory.beta is None else alpha
    new = NewSurface((alpha,) if beta is None else (alpha, beta), ("train_loss",), ([],), "job", trajectory=trajectory)
    create_surface(folder / "surface.h5", new)
    return folder / "surface.h5"


@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("explained", [(0.75, 0.125), (0.75,), ()])
def test_a_path_comes_back_as_it_was_written(tmp_path, beta, explained):
    wanted = path(beta, explained)
    found = read_surface(written(tmp_path, wanted)).trajectory
    np.testing.assert_array_equal(found.coordinates, wanted.coordinates)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    assert found.epoch.dtype == np.int64
    assert found.explained == explained[: len(wanted.coordinates)]


def test_a_surface_without_a_path(tmp_path):
    surface = written(tmp_path, None)
    assert read_surface(surface).trajectory is None
    assert "off the plane" not in describe(surface)


def test_info_says_how_much_of_it_the_plane_shows(tmp_path):
    said = describe(written(tmp_path, path()))
    assert "4 checkpoints, epochs 0 to 3" in said
    assert "0.1875 (median), 0.5 (farthest)" in said
    assert "75.00%, 12.50% by component" in said


@pytest.mark.parametrize(
    ("rates", "drops"),
    [
        ([math.nan, 0.1, 0.1, 0.01, 0.01, 0.001], [2, 4]),
        ([math.nan, 0.1, math.nan, 0.01], [1]),
        ([0.1, 0.1, 0.1], []),
        ([0.01, 0.1, 0.1, 0.01], [2]),
        ([math.nan] * 3, []),
        ([], []),
    ],
)
def test_a_drop_is_at_the_last_checkpoint_before_it(rates, drops):
    values = np.zeros(len(rates))
    assert Trajectory((values,), values, np.arange(len(rates)), values, np.array(rates)).drops.tolist() == drops


def missing(file):
    del file["trajectory/residual"]


def uneven(file):
    del file["trajectory/beta"]
    file["trajectory/beta"] = np.zeros(3)


def square(file):
    del file["trajectory"]
    for name in COLUMNS:
        file[f"trajectory/{name}"] = np.zeros((2, 2))


def text(file):
    del file["trajectory/alpha"]
    file["trajectory/alpha"] = np.array([b"x"] * 4)


def no_group(file):
    del file["trajectory"]
    file["trajectory"] = np.zeros(3)


def elsewhere(file):
    del file["trajectory"]
    file["trajectory"] = h5py.ExternalLink("other.h5", "/trajectory")


def linked(file):
    del file["trajectory/lr"]
    file["trajectory/lr"] = h5py.SoftLink("/trajectory/alpha")


@pytest.mark.parametrize("spoil", [missing, uneven, square, text, no_group, elsewhere, linked])
def test_what_is_no_path_is_refused(tmp_path, spoil):
    surface = written(tmp_path, path())
    with h5py.File(surface, "r+") as file:
        spoil(file)
    with pytest.raises(UserError, match=r"trajectory|lr is a link"):
        read_surface(surface)


@pytest.mark.parametrize("value", ["text", np.array(["a", "b"], "S1"), np.arange(3), np.full((2, 2), 0.5)])
def test_shares_that_are_none_are_left_out(tmp_path, value):
    surface = written(tmp_path, path())
    with h5py.File(surface, "r+") as file:
        file["trajectory"].attrs["explained_variance_ratio"] = value
    assert len(read_surface(surface).trajectory.explained) <= 2


@pytest.mark.parametrize("beta", [True, False])
def test_several_runs_come_back_each_under_its_name(tmp_path, beta):
    one = path(beta)
    other = replace(one, coordinates=(np.array([9.0, 8.0, 7.0, 6.0]), *one.coordinates[1:]))
    found = read_surface(written(tmp_path, joined([one, other], ["sgd", "a dam é"]))).trajectory
    assert found.names == ("sgd", "a dam é")
    for wanted, run in zip((one, other), found.runs, strict=True):
        np.testing.assert_array_equal(run.coordinates, wanted.coordinates)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(run, name), getattr(wanted, name))
    assert [run.names for run in found.runs] == [("sgd",), ("a dam é",)]
    said = describe(tmp_path / "surface.h5")
    assert "sgd: 4 checkpoints, epochs 0 to 3" in said
    assert "a dam é: 4 checkpoints, epochs 0 to 3" in said


def test_runs_that_are_numbered_wrongly_are_refused(tmp_path):
    surface = written(tmp_path, joined([path(), path()], ["sgd", "adam"]))
    for run in ([0] * 8, [0, 2] * 4, [0, 1]):
        with h5py.File(surface, "r+") as file:
            del file["trajectory/run"]
            file["trajectory/run"] = np.array(run)
        with pytest.raises(UserError, match="`trajectory/run` does not number 2 runs of 8 checkpoints"):
            read_surface(surface)


def projected(points, directions):
    """Least-squares coordinates [n, axes] of points on the span of directions, and their distance from it [n]."""
    found = np.linalg.lstsq(directions.T, points.T, rcond=None)[0].T
    return found, np.linalg.norm(points - found @ directions, axis=1)


@pytest.mark.parametrize("gamma", [0.0, 0.7, -2.0])
def test_a_path_through_a_volume_is_projected_onto_its_slices(gamma):
    """Against least squares on the slice itself, for directions of any lengths and angles."""
    random = np.random.default_rng(3)
    directions, points = random.normal(size=(3, 12)) * [[1.0], [2.0], [0.5]], random.normal(size=(5, 12))
    coordinates, residual = projected(points, directions)
    norms = np.linalg.norm(directions, axis=1)
    cosines = directions @ directions.T / np.outer(norms, norms)
    attributes = dict(zip(("delta_norm", "eta_norm", "zeta_norm"), norms.tolist(), strict=True))
    attributes |= {"cosine": float(cosines[0, 1]), "cosine_13": float(cosines[0, 2]), "cosine_23": float(cosines[1, 2])}
    whole = Trajectory(tuple(coordinates.T), residual, np.arange(5), residual, residual, (0.5, 0.3, 0.1))
    expected, off = projected(points - gamma * directions[2], directions[:2])
    found = on_slice(whole, gamma, attributes)
    np.testing.assert_allclose(np.stack(found.coordinates, axis=1), expected, rtol=1e-9)
    np.testing.assert_allclose(found.residual, off, rtol=1e-9)
    assert found.explained == (0.5, 0.3)
    assert on_slice(whole, gamma, {**attributes, "zeta_norm": math.nan}) is None
    assert on_slice(whole, gamma, {}) is None
    assert on_slice(path(), gamma, attributes) is None
