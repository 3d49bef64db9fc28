"""Smoothing within error bars: noise goes, what is larger than the bars stays, and exact points are kept near."""

import numpy as np
import pytest

from landscape_mpi.plot.smoothing import smoothed

X, Y = np.meshgrid(np.linspace(-1, 1, 25), np.linspace(-1, 1, 21))
TRUTH = np.log(X**2 + 0.5 * Y**2 + 0.05)
SD = 0.02 * (1.5 + X)
"""Of the noise: on the right five times as much as on the left."""
BARS = 1.96 * SD


@pytest.fixture
def noise():
    return SD * np.random.default_rng(0).standard_normal(TRUTH.shape)


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def test_most_of_the_noise_goes_and_points_stay_within_their_bars(noise):
    found = smoothed(TRUTH + noise, BARS)
    assert rms(found - TRUTH) < 0.6 * rms(noise)
    moves = np.abs(found - TRUTH - noise)
    assert (moves <= BARS).mean() >= 0.95
    assert (moves <= 2 * np.maximum(BARS, np.median(BARS))).all()


@pytest.mark.parametrize("height", [1.0, -1.0])
def test_a_peak_or_pit_of_one_point_that_is_larger_than_the_bars_stays(noise, height):
    heights = TRUTH + noise
    heights[10, 12] += height
    found = smoothed(heights, BARS)
    assert abs(found[10, 12] - heights[10, 12]) <= 2 * BARS[10, 12]


def test_exact_points_are_kept_near_and_points_without_a_finite_bar_follow_their_neighbours(noise):
    bars, heights = BARS.copy(), TRUTH + noise
    bars[::5, ::5] = 0.0
    heights[::5, ::5] = TRUTH[::5, ::5]
    bars[3, 3], heights[3, 3] = np.inf, 50.0
    found = smoothed(heights, bars)
    assert abs(found[3, 3] - TRUTH[3, 3]) < 0.2
    exact = bars == 0
    assert rms((found - TRUTH)[exact]) < rms((found - TRUTH)[~exact & np.isfinite(bars)])


@pytest.mark.parametrize("bars", [0.0, np.nan, np.inf])
def test_without_a_bar_nothing_changes(bars):
    assert smoothed(TRUTH, np.full(TRUTH.shape, bars)) is TRUTH
