"""Quadratures of spectra that are known, and traces, by products alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.curvature import spectrum

SIZE = 40
OUTLIERS = np.r_[np.linspace(-0.1, 0.1, SIZE - 4), 5, 10, 40, -2]


def matrix(values, seed=0):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    return rotation * values @ rotation.T


def probe(number, size=SIZE):
    return torch.from_numpy(np.random.default_rng(number).choice([-1.0, 1.0], size))


def measured(hessian, probes=1, steps=8):
    whole = torch.from_numpy(hessian)
    return spectrum(lambda v: whole @ v, lambda number: probe(number, len(hessian)), probes, steps)


def test_as_many_steps_as_dimensions_give_every_eigenvalue_and_its_share_of_the_probe():
    hessian = matrix(OUTLIERS)
    found = measured(hessian, steps=SIZE)
    values, vectors = np.linalg.eigh(hessian)
    np.testing.assert_allclose(found.nodes[0], values, atol=1e-12)
    np.testing.assert_allclose(found.weights[0], (vectors.T @ probe(0).numpy()) ** 2 / SIZE, atol=1e-12)


def test_moments_are_those_of_the_matrix_up_to_twice_the_steps():
    hessian, steps = matrix(np.linspace(-1, 1, SIZE)), 4
    found = measured(hessian, 3, steps)
    for number in range(3):
        v = probe(number).numpy()
        power = v / np.sqrt(SIZE)
        for k in range(2 * steps):
            moment = float(v @ power) / np.sqrt(SIZE)
            assert found.weights[number] @ found.nodes[number] ** k == pytest.approx(moment, abs=1e-13)
            power = hessian @ power
        assert abs(found.weights[number] @ found.nodes[number] ** (2 * steps) - v @ power / np.sqrt(SIZE)) > 1e-6


@pytest.mark.parametrize("probes", [1, 2])
def test_the_trace_of_one_or_two_probes_is_the_mean_of_their_quadratic_forms(probes):
    hessian = matrix(OUTLIERS)
    found = measured(hessian, probes)
    forms = [float(v @ hessian @ v) for v in (probe(number).numpy() for number in range(probes))]
    assert found.trace == pytest.approx(np.mean(forms), rel=1e-12)
    assert (
        found.error == pytest.approx(abs(forms[-1] - forms[0]) / 2, rel=1e-9) if probes > 1 else np.isnan(found.error)
    )
    sums = SIZE * (found.nodes * found.weights).sum(1)
    np.testing.assert_allclose(sums, forms, rtol=1e-12)


def test_the_trace_of_more_is_exact_in_what_the_first_one_reaches():
    hessian, steps, probes = matrix(OUTLIERS), 6, 5
    found = measured(hessian, probes, steps)
    powers = [probe(0).numpy()]
    for _ in range(steps - 1):
        powers.append(hessian @ powers[-1] / np.linalg.norm(hessian @ powers[-1]))
    basis, _ = np.linalg.qr(np.stack(powers, 1))
    outside = [v - basis @ (basis.T @ v) for v in (probe(number).numpy() for number in range(1, probes))]
    rest = [float(g @ hessian @ g) for g in outside]
    assert found.trace == pytest.approx(np.trace(basis.T @ hessian @ basis) + np.mean(rest), rel=1e-9)
    assert found.error == pytest.approx(np.std(rest, ddof=1) / np.sqrt(probes - 1), rel=1e-6)


@pytest.mark.slow
def test_the_standard_error_is_that_of_the_trace_and_far_smaller_than_without_the_subspace():
    hessian, true = matrix(OUTLIERS), OUTLIERS.sum()
    whole = torch.from_numpy(hessian)
    found = [
        spectrum(lambda v: whole @ v, lambda number, seed=seed: probe(1000 * seed + number), 5, 8) for seed in range(40)
    ]
    missed = np.array([one.trace - true for one in found])
    typical = np.sqrt(np.mean([one.error**2 for one in found]))
    assert np.sqrt(np.mean(missed**2)) == pytest.approx(typical, rel=0.3)
    assert abs(missed.mean()) < 3 * typical / np.sqrt(40)
    plain = np.std([float(v @ hessian @ v) for v in (probe(number).numpy() for number in range(300))]) / np.sqrt(5)
    assert typical < plain / 20


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=20), st.integers(1, 25))
@settings(max_examples=25, deadline=None)
def test_any_small_symmetric_matrix(values, steps):
    found = measured(matrix(np.array(values)), 3, steps)
    scale = max(map(abs, values))
    known = np.isfinite(found.nodes)
    assert found.nodes.shape == (3, steps)
    assert (known.sum(1) <= min(steps, len(values))).all()
    assert not found.weights[~known].any()
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-12)
    assert (np.abs(found.nodes[known]) <= scale * (1 + 1e-9) + 1e-12).all()
    if known[0].sum() == len(values):
        assert found.trace == pytest.approx(sum(values), abs=1e-9 * scale * len(values) + 1e-12)


def test_a_multiple_of_the_identity_has_one_node():
    found = measured(np.diag(np.full(7, 3.0)), 2, 4)
    assert np.isnan(found.nodes[:, 1:]).all()
    np.testing.assert_allclose(found.nodes[:, 0], 3)
    assert (found.trace, found.error) == (pytest.approx(21), pytest.approx(0, abs=1e-12))


def test_products_that_are_not_finite_have_no_spectrum():
    found = spectrum(lambda v: v * torch.inf, probe, 3, 4)
    assert all(np.isnan(part).all() for part in found)
    assert found.nodes.shape == found.weights.shape == (3, 4)
