"""Sums that no order changes, the textbook's standard error, and what is not finite."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.metrics.examples import exact_mean, exact_sum, mean_and_error


@pytest.mark.slow
@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=60), st.randoms())
def test_sums_depend_on_no_order(values, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert mean_and_error(np.array(values))[0] == mean_and_error(np.array(shuffled))[0]


def test_terms_of_all_sizes_are_summed_exactly():
    values = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-10, 10).repeat(50)
    assert exact_mean(values) == exact_mean(values[::-1])


def test_mean_and_standard_error_are_the_textbooks():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    mean, error = mean_and_error(values)
    assert (mean, error) == pytest.approx((4.0, np.std(values, ddof=1) / 2))
    assert math.isnan(mean_and_error(np.array([3.0]))[1])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.inf], math.inf),
        ([1.0, math.nan], math.nan),
        ([math.inf, -math.inf], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_what_is_not_finite_comes_through(values, expected):
    assert exact_sum(np.array(values)) == pytest.approx(expected, nan_ok=True)
