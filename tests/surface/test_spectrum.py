"""Densities of eigenvalues from nodes and weights, against those of the eigenvalues themselves."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from landscape_mpi.curvature import spectrum
from landscape_mpi.errors import UserError
from landscape_mpi.surface.read import Surface
from landscape_mpi.surface.spectrum import density, ends, nearest, usual_bandwidth

SIZE, PROBES, STEPS = 400, 12, 40
VALUES = np.sort(np.r_[np.random.default_rng(0).normal(0, 0.3, SIZE - 3), 4, 6, 9])


def made(nodes, weights, status=(1,)):
    """A surface on a line around theta* with the same spectrum at every point."""
    points = len(status)
    arrays = {"spectrum_nodes": np.stack([nodes] * points), "spectrum_weights": np.stack([weights] * points)}
    done = np.array(status, np.uint8)
    axes = (np.arange(points) - (points - 1) / 2.0,)
    return Surface(Path("s.h5"), axes, {"train_loss": np.ones(points)}, done, {}, None, arrays=arrays)


@pytest.fixture(scope="module")
def surface():
    """A surface of one point, whose Hessian has the eigenvalues of `VALUES`."""
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(SIZE, SIZE)))
    matrix = torch.from_numpy(rotation * VALUES @ rotation.T)
    draw = np.random.default_rng
    found = spectrum(lambda v: matrix @ v, lambda n: torch.from_numpy(draw(n).choice([-1.0, 1.0], SIZE)), PROBES, STEPS)
    return made(found.nodes, found.weights)


def test_a_density_is_that_of_the_eigenvalues_within_its_standard_errors(surface):
    found = density(surface, (0,), bandwidth=0.1)
    away = (found.eigenvalues[:, None] - VALUES) / 0.1
    true = np.exp(-0.5 * away**2).sum(1) / (SIZE * 0.1 * math.sqrt(2 * math.pi))
    assert np.trapezoid(found.density, found.eigenvalues) == pytest.approx(1, abs=1e-3)
    seen = true > 1e-3 * true.max()
    off = np.abs(found.density - true)[seen] / found.stderr[seen]
    assert np.mean(off < 4) > 0.95
    assert np.abs(found.density - true).max() < 0.05 * true.max()


def test_quantiles_of_the_nodes_are_those_of_the_eigenvalues(surface):
    nodes, weights = (surface.arrays[f"spectrum_{name}"][0].ravel() for name in ("nodes", "weights"))
    order = np.argsort(nodes)
    share = np.cumsum(weights[order]) / PROBES
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9, 0.993):
        found, true = np.interp(quantile, share, nodes[order]), np.quantile(VALUES, quantile)
        assert found == pytest.approx(true, abs=0.02 if quantile < 0.99 else 1.5)
    assert ends(surface) == pytest.approx((VALUES[0], VALUES[-1]), abs=1e-2)


def test_one_probe_has_no_standard_error_and_a_bandwidth_can_be_chosen():
    nodes, weights = np.array([[-1.0, 3.0, np.nan]]), np.array([[0.25, 0.75, 0.0]])
    found = density(made(nodes, weights), (0,))
    assert found.bandwidth == usual_bandwidth(-1, 3) == 4 / 200
    assert np.isnan(found.stderr).all()
    peak = found.density[np.abs(found.eigenvalues - 3).argmin()]
    assert peak == pytest.approx(0.75 / (0.02 * math.sqrt(2 * math.pi)), rel=0.02)
    assert density(made(nodes, weights), (0,), 0.5).bandwidth == 0.5
    assert usual_bandwidth(2.0, 2.0) == 0.01
    assert usual_bandwidth(0.0, 0.0) == 1.0


def test_the_nearest_point_of_the_grid_is_taken():
    nodes, weights = np.zeros((1, 1)), np.ones((1, 1))
    line = made(nodes, weights, status=(1, 0, 1))
    assert [nearest(line, point) for point in ((), (0.9,), (-7.0,))] == [(1,), (2,), (0,)]
    with pytest.raises(UserError, match="found 2 coordinates; expected at most 1"):
        nearest(line, (0.0, 0.0))
    with pytest.raises(UserError, match="no spectrum to draw yet: 2 of 3 points are done"):
        density(line, (1,))


def test_surfaces_without_a_spectrum_and_spectra_that_are_not_finite_are_refused():
    plain = made(np.zeros((1, 1)), np.ones((1, 1)))
    with pytest.raises(UserError, match=r"has no spectrum; expected a surface of `metrics: \[loss, spectrum\]`"):
        ends(Surface(plain.path, plain.axes, plain.metrics, plain.status, {}, None))
    with pytest.raises(UserError, match="the Hessian is not finite where its spectrum is asked for"):
        density(made(np.full((1, 2), np.nan), np.full((1, 2), np.nan)), (0,))
