"""Both ends of spectra that are known, found by products alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.curvature import extremes, start_vector
from landscape_mpi.curvature.lanczos import LONGEST, MOST, STEADY, basis_size

CPU = torch.device("cpu")


def search(spectrum, tolerance, **options):
    """Search the diagonal matrix of a spectrum, in which Lanczos sees nothing special."""
    diagonal = torch.as_tensor(np.sort(spectrum), dtype=torch.float64)
    return extremes(lambda v: diagonal * v, start_vector(len(diagonal), CPU), tolerance, **options)


def bulk(outliers, width=0.01, size=5000):
    """Most eigenvalues of a network are near 0, and a few are not."""
    return np.r_[np.random.default_rng(0).normal(0, width, size), outliers]


def off(found, spectrum):
    """By how much of the larger magnitude both ends are off."""
    low, high = np.min(spectrum), np.max(spectrum)
    return max(abs(found.smallest - low), abs(found.largest - high)) / max(abs(low), abs(high))


SPECTRA = {
    "a saddle": bulk([100, 40, 20, 10, -40]),
    "a small negative one": bulk([100, 40, 20, 10, -0.5]),
    "hardly out of the bulk": bulk([100, 90, 80, -0.06]),
    "none negative": np.abs(bulk([100, 40, 20])),
    "negative alone": -np.abs(bulk([100, 40, 20])),
    "no gap": np.random.default_rng(1).uniform(-1, 1, 5000),
    "a bulk as wide as the outliers": bulk([10, -9], width=2.0),
}


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
@pytest.mark.parametrize("name", SPECTRA)
def test_both_ends_are_found_to_the_tolerance(name, tolerance):
    found = search(SPECTRA[name], tolerance)
    assert found.converged
    assert found.residual <= tolerance
    assert off(found, SPECTRA[name]) <= tolerance
    assert STEADY <= found.products < MOST


@pytest.mark.slow
@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=1, max_size=40), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_any_small_symmetric_matrix(spectrum, seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(spectrum), len(spectrum))))
    matrix = torch.from_numpy(rotation * spectrum @ rotation.T)
    found = extremes(lambda v: matrix @ v, start_vector(len(spectrum), CPU), 1e-6)
    assert found.converged
    scale = max(map(abs, spectrum))
    assert abs(found.largest - max(spectrum)) <= 1e-5 * scale + 1e-12
    assert abs(found.smallest - min(spectrum)) <= 1e-5 * scale + 1e-12


def test_the_residual_is_the_true_one_and_the_vectors_are_unit_with_a_fixed_sign():
    diagonal = torch.from_numpy(np.sort(SPECTRA["a bulk as wide as the outliers"]))
    found = search(diagonal.numpy(), 1e-2)
    pairs = [(found.smallest, found.lowest), (found.largest, found.highest)]
    residuals = [float((diagonal * v - value * v).norm()) for value, v in pairs]
    assert found.residual == pytest.approx(max(residuals) / max(abs(found.smallest), abs(found.largest)), rel=1e-6)
    for _, vector in pairs:
        assert float(vector.norm()) == pytest.approx(1)
        assert vector[vector.abs().argmax()] > 0


def test_a_search_that_is_cut_short_says_how_far_it_came():
    found = search(SPECTRA["no gap"], 1e-3, most=12)
    assert not found.converged
    assert found.products == 12
    assert found.residual > 1e-3
    assert -1 < found.smallest < -0.5 < 0.5 < found.largest < 1


def test_restarts_lose_nothing():
    found = search(SPECTRA["no gap"], 1e-4)
    assert found.products > 2 * LONGEST
    assert off(found, SPECTRA["no gap"]) < 1e-4


def test_a_matrix_of_zeros_and_a_single_parameter():
    assert (search(np.zeros(7), 1e-3).smallest, search(np.zeros(7), 1e-3).largest) == (0, 0)
    found = search([-3.0], 1e-3)
    assert (found.smallest, found.largest, found.products) == (-3, -3, 1)


def test_products_that_are_not_finite_end_the_search():
    found = extremes(lambda v: v * torch.inf, start_vector(5, CPU), 1e-3)
    assert np.isnan([found.smallest, found.largest, found.residual]).all()
    assert (found.products, found.converged) == (1, False)


def test_a_search_is_the_same_every_time():
    first, second = (search(SPECTRA["a saddle"], 1e-3) for _ in range(2))
    assert (first.smallest, first.largest, first.products) == (second.smallest, second.largest, second.products)
    assert torch.equal(first.highest, second.highest)


def test_large_networks_get_a_shorter_basis():
    assert (basis_size(850_000), basis_size(10_000_000), basis_size(10**9)) == (60, 25, 20)
