"""Which points an audit looks at, and its verdict."""

import numpy as np
import pytest

from landscape_mpi.sampling import judge, points_to_audit
from landscape_mpi.sampling.audit import allowed, widening


def verdict(errors, bars=1.0, truth=10.0, target=0.2):
    errors = np.asarray(errors, float)
    return judge(truth + errors, np.full(len(errors), bars), np.full(len(errors), truth), target)


def test_points_are_chosen_by_seed_among_those_not_on_all_examples():
    levels = np.arange(300) % 3
    chosen = points_to_audit(levels, 2, 32, seed=5)
    assert len(set(chosen)) == 32
    assert (levels[chosen] < 2).all()
    np.testing.assert_array_equal(chosen, points_to_audit(levels, 2, 32, seed=5))
    assert set(chosen) != set(points_to_audit(levels, 2, 32, seed=6))


def test_there_may_be_fewer_points_than_asked_for():
    np.testing.assert_array_equal(points_to_audit(np.array([1, 0, 1, 0]), 1, 32, 0), [1, 3])
    assert len(points_to_audit(np.array([1, 1]), 1, 32, 0)) == 0
    assert judge(np.empty(0), np.empty(0), np.empty(0), 0.05).passed


@pytest.mark.parametrize(("points", "misses"), [(0, 0), (1, 1), (8, 2), (32, 4), (100, 10)])
def test_as_many_may_miss_as_honest_bars_would(points, misses):
    assert allowed(points) == misses


@pytest.mark.parametrize(("misses", "passed"), [(0, True), (4, True), (5, False)])
def test_four_of_32_may_miss_their_bar(misses, passed):
    found = verdict([1.5] * misses + [-0.9] * (32 - misses))
    assert (found.points, found.misses, found.passed) == (32, misses, passed)
    assert found.worst == pytest.approx(1.5 if misses else 0.9)


@pytest.mark.parametrize(("error", "passed"), [(3.9, True), (-4.1, False)])
def test_none_may_be_off_by_more_than_twice_the_target(error, passed):
    found = verdict([error] + [0.0] * 31)
    assert found.passed is passed
    assert found.farthest == pytest.approx(abs(error) / 2)


@pytest.mark.parametrize("truth", [np.nan, np.inf])
def test_a_truth_that_is_not_finite_was_missed(truth):
    found = judge(np.ones(2), np.ones(2), np.array([1.0, truth]), 0.05)
    assert (found.misses, found.worst, found.passed) == (1, np.inf, False)


def test_an_estimate_without_a_number_is_a_miss():
    found = judge(np.array([np.nan]), np.array([np.inf]), np.ones(1), 0.05)
    assert (found.misses, found.passed) == (1, False)


def test_an_error_of_zero_is_within_a_bar_of_zero():
    found = judge(np.zeros(3), np.zeros(3), np.zeros(3), 0.05)
    assert (found.misses, found.worst, found.passed) == (0, 0, True)


@pytest.mark.parametrize(("ratios", "factor"), [([0.5, 0.9], 1.0), (range(20), 18.0), (range(19), 18.0), ([], 1.0)])
def test_bars_are_widened_until_all_but_one_in_20_would_hold(ratios, factor):
    errors = np.array(ratios, float)
    assert widening(5 + 0.1 * errors, np.full(len(errors), 0.1), np.full(len(errors), 5.0)) == pytest.approx(factor)


def test_what_is_not_finite_widens_no_bar():
    assert widening(np.array([1.0, np.nan, 1.0]), np.array([2.0, 1.0, 0.0]), np.array([2.0, 1.0, 1.0])) == 1.0
