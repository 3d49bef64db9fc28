"""Who is promoted, where to, and the log."""

import json

import numpy as np
import pytest

from landscape_mpi.sampling.estimate import Estimates, make_ladder
from landscape_mpi.sampling.order import make_frame
from landscape_mpi.sampling.plan import predicted_variances, promotions, relative_bars, stand, unlike

ALIKE_LADDER = make_ladder(make_frame(np.ones(1600), None, 0), (100, 200, 400, 800, 1600))
"""Examples all of one size: pi = n / N."""


def independent(points, scale=0.01):
    """Return the noise [100, points] of points that share nothing."""
    noise = np.zeros((100, points))
    noise[np.arange(points), np.arange(points)] = scale
    return noise


def promoted(levels, relative, noise=None, error=0.05, means=None):
    count = len(levels)
    means = np.ones(count) if means is None else np.array(means)
    bars = np.array(relative) * np.abs(means)
    standing = stand(count, [[(point, level) for point, level in enumerate(levels)]])
    noise = independent(count) if noise is None else noise
    found = Estimates(means, np.square(bars / 1.96), noise)
    return promotions(ALIKE_LADDER, standing, found, bars, error)


def test_once_all_bars_hold_nobody_is_promoted():
    assert promoted([0, 1, 4], [0.05, 0.01, 0.0]) == ()


def test_only_points_whose_bar_is_too_wide_are_promoted_the_worst_first():
    assert [point for point, _ in promoted([0, 0, 0, 0], [0.06, 0.04, 0.2, 0.1])] == [2, 3, 0]


def test_the_smallest_level_whose_predicted_bar_is_below_three_quarters_of_the_target():
    """With pi = n / N variances go as N / n - 1: 15, 7, 3, 1, 0."""
    aim = 0.75 * 0.05
    bars = aim * np.sqrt(15 / np.array([7, 3, 1]))
    assert promoted([0] * 3, 0.999 * bars) == ((2, 3), (1, 2), (0, 1))
    assert promoted([0] * 3, 1.001 * bars) == ((2, 4), (1, 3), (0, 2))


def test_a_promoted_point_goes_up_one_level():
    assert promoted([1, 3], [0.9, 0.06]) == ((0, 2), (1, 4))


def test_a_point_on_all_examples_is_never_promoted():
    assert promoted([4, 4], [np.inf, 1.0]) == ()


def test_a_round_takes_eight():
    assert len(promoted([0] * 20, np.linspace(0.1, 0.2, 20))) == 8


def test_where_level_0_can_bear_no_more_regressors_all_go_up_at_once():
    """20 points above the first level are all that its 100 examples can bear."""
    above, relative = [1] * 20, np.concatenate([np.full(20, 0.01), np.linspace(0.1, 0.2, 20)])
    assert sorted(point for point, _ in promoted(above + [0] * 20, relative)) == list(range(20, 40))
    assert len(promoted(above[1:] + [0] * 20, relative[1:])) == 8


def test_points_without_a_relative_bar_go_to_the_top_all_at_once():
    means = [np.nan, 0.0, 1.0, *[0.0] * 20]
    bars = [np.nan, 0.0, 0.2, *[0.0] * 20]
    found = promoted([0] * 23, bars, means=means)
    assert dict(found) == {0: 4, 1: 4, 2: 4, **dict.fromkeys(range(3, 23), 4)}


@pytest.mark.parametrize(("correlation", "taken"), [(0.69, [0, 1]), (0.71, [0]), (-0.71, [0]), (-0.69, [0, 1])])
def test_a_point_like_one_taken_already_waits(correlation, taken):
    noise = independent(2)
    noise[:, 1] = 3 * (correlation * noise[:, 0] + np.sqrt(1 - correlation**2) * noise[:, 1])
    assert unlike(np.array([0, 1]), noise) == taken


def test_points_without_noise_are_like_nobody():
    assert unlike(np.arange(3), np.zeros((5, 3))) == [0, 1, 2]


def test_a_prediction_knows_which_examples_are_taken_for_certain():
    reference = np.concatenate([np.full(10, 1e6), np.full(1590, 1e-6)])
    ladder = make_ladder(make_frame(reference, None, 0), (100, 200, 400, 1600))
    hard = ladder.frame.sizes[:100] > 1
    now, later = (1 / ladder.pi[level][:100] - 1 for level in (0, 1))
    noise = np.where(hard, 0.0, 0.1)
    expected = later[~hard][0] / now[~hard][0]
    predicted = predicted_variances(ladder, 2.0, noise)
    assert predicted[0] == pytest.approx(2 * expected)
    assert 0.3 < expected < 0.6
    assert predicted[2] == 0


def test_what_came_with_the_regressors_alone_needs_all_examples():
    assert predicted_variances(ALIKE_LADDER, 2.0, np.zeros(100)) == [2.0, 2.0, 2.0, 0.0]


def test_relative_bars():
    bars = relative_bars(np.array([2.0, -2.0, 0.0, np.nan, 1.0]), np.array([1.0, 1.0, 0.0, 1.0, np.nan]))
    np.testing.assert_array_equal(bars, [0.5, 0.5, np.inf, np.inf, np.inf])


def test_a_log_survives_json_and_tells_levels_and_turns():
    log = [((3, 1), (0, 2)), ((3, 2),)]
    for told in (log, json.loads(json.dumps(log))):
        standing = stand(4, told)
        assert standing.levels.tolist() == [2, 0, 0, 2]
        assert standing.turns[[3, 0]].tolist() == [0, 1]
        assert standing.turns[1] > 1
