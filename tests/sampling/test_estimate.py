"""Calibrated weights, strata, bars; the stairs themselves with known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.examples import exact_mean
from landscape_mpi.sampling.estimate import calibrate, estimate, make_ladder, noise, strata
from landscape_mpi.sampling.order import inclusion, make_frame
from landscape_mpi.sampling.plan import stand

NEVER = np.iinfo(np.int64).max


def made(seed, examples, points=6, classes=3):
    """Return losses at theta* [N], labels [N] and correlated per-example losses [points, N]."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=examples)
    reference = draw.exponential(size=examples) ** 2
    slopes = draw.normal(size=(points, 2, 1))
    rest = draw.normal(size=(points, examples)) * draw.random((points, 1))
    return reference, labels, 5 + slopes[:, 0] * labels + slopes[:, 1] * reference + rest


def ladder_of(reference, labels, prefixes=(40, 80), seed=0):
    return make_ladder(make_frame(reference, labels, seed), (*prefixes, len(reference)))


def in_order(ladder, values, levels):
    """Return what has been evaluated of each point on its level."""
    return [row[ladder.frame.order[: ladder.prefixes[level]]] for row, level in zip(values, levels, strict=True)]


def climb(ladder, reference, values, levels):
    standing = stand(len(values), [[(point, level) for point, level in enumerate(levels)]])
    return estimate(ladder, standing, reference[ladder.frame.order], in_order(ladder, values, levels))


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_calibrated_weights_reproduce_the_known_means(seed, p):
    draw = np.random.default_rng(seed)
    x, d, means = draw.normal(size=(50, p)), draw.uniform(1, 9, 50), draw.normal(size=p)
    fit = calibrate(x, d, means)
    np.testing.assert_allclose(fit.weights @ x, means, atol=1e-9)


def test_the_weights_are_those_of_the_formula():
    draw = np.random.default_rng(0)
    x, d, means = draw.normal(size=(30, 3)), draw.uniform(1, 9, 30), np.array([1.0, 2.0, -1.0])
    fit = calibrate(x, d, means)
    inverse = np.linalg.inv(x.T @ (d[:, None] * x))
    np.testing.assert_allclose(fit.weights, d * (x @ inverse @ means))
    y = draw.normal(size=(30, 2))
    np.testing.assert_allclose(fit.coefficients(y), inverse @ x.T @ (d[:, None] * y))
    np.testing.assert_allclose(fit.weights @ y, fit.coefficients(y).T @ means)


def test_with_the_constant_alone_the_weights_are_hajeks():
    d = np.array([1.0, 2.0, 5.0])
    np.testing.assert_allclose(calibrate(np.ones((3, 1)), d, np.ones(1)).weights, d / 8)


def test_regressors_that_add_nothing_are_left_out_the_first_of_a_kind_stays():
    x = np.random.default_rng(0).normal(size=(20, 2))
    columns = np.column_stack([x[:, 0], np.zeros(20), 3 * x[:, 0], x[:, 1], x.sum(axis=1)])
    fit = calibrate(columns, np.ones(20), np.array([1.0, 0.0, 99.0, 2.0, 99.0]))
    assert fit.kept.tolist() == [0, 3]
    np.testing.assert_allclose(fit.weights @ columns[:, [0, 3]], [1, 2])


def test_regressors_of_any_scale_are_alike():
    x = np.random.default_rng(0).normal(size=(20, 2))
    fits = [calibrate(x * scale, np.ones(20), np.array([0.3, 0.2]) * scale) for scale in (1.0, [1e-200, 1e200])]
    np.testing.assert_allclose(fits[0].weights, fits[1].weights)


def test_noise_is_n_over_n_less_p_times_the_weighted_residual():
    fit = calibrate(np.ones((4, 1)), np.full(4, 2.0), np.ones(1))
    shares = noise(fit, np.full(4, 0.36), np.array([[1.0], [-1.0], [2.0], [-2.0]]))
    np.testing.assert_allclose(shares[:, 0], np.array([1, -1, 2, -2]) * 0.25 * 0.8 * 4 / 3)


CLASSES = st.lists(st.integers(0, 6), min_size=1, max_size=80)


@pytest.mark.slow
@given(CLASSES, st.integers(1, 5), st.data())
def test_strata_share_out_prefix_and_whole(codes, most, data):
    whole = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    prefix = whole[: data.draw(st.integers(1, len(whole)))]
    indicators, shares = strata(prefix, whole, most)
    np.testing.assert_array_equal(indicators.sum(axis=1), 1)
    assert shares.sum() == pytest.approx(1)
    assert 1 <= len(shares) <= most
    assert len(shares) == 1 or (indicators.sum(axis=0) >= 5).all()


def test_a_class_absent_from_the_prefix_joins_the_rare_ones():
    whole = np.repeat([0, 1, 2, 3], [50, 40, 6, 4])
    indicators, shares = strata(np.repeat([0, 1, 2], [25, 20, 5]), whole, 10)
    np.testing.assert_allclose(shares, [0.5, 0.4, 0.1])
    np.testing.assert_allclose(indicators.sum(axis=0), [25, 20, 5])


def test_bars_are_196_standard_errors_and_have_floors():
    means, used = np.array([2.0, -2.0]), np.array([400, 600])
    np.testing.assert_allclose(LOSS.bars(means, np.array([1.0, 0.0]), used, 400), [1.96, 0.005])
    np.testing.assert_allclose(ACCURACY.bars(means, np.array([4.0, 0.0]), used, 400), [3.92, 0.5])


def test_on_all_examples_means_are_exact_and_without_variance():
    reference, labels, values = made(0, 200)
    found = climb(ladder_of(reference, labels), reference, values, [2] * 6)
    np.testing.assert_array_equal(found.means, [exact_mean(row) for row in values])
    np.testing.assert_array_equal(found.variances, 0)
    np.testing.assert_array_equal(found.noise, 0)


def test_what_is_linear_in_classes_theta_and_higher_points_is_exact_on_the_first_level():
    reference, labels, values = made(1, 300)
    values[0] = labels == 1
    values[1] = 2 + 3 * reference
    values[2] = values[3] - 4 * values[4]
    found = climb(ladder_of(reference, labels), reference, values, [0, 0, 0, 2, 2, 0])
    np.testing.assert_allclose(found.means[:3], values[:3].mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(found.variances[:3], 0, atol=1e-20)
    assert found.variances[5] > 1e-5


def test_what_follows_a_point_halfway_up_inherits_its_variance():
    reference, labels, values = made(2, 300)
    values[0] = 3 * values[1]
    found = climb(ladder_of(reference, labels), reference, values, [0, 1, 0, 0, 0, 0])
    assert found.means[0] == pytest.approx(3 * found.means[1])
    assert found.variances[0] == pytest.approx(9 * found.variances[1])
    assert found.variances[1] > 0


def test_errors_that_regressors_share_cancel():
    """Point 0 is what is left of point 2 after point 1, though both are uncertain: what 2 adds on its level remains."""
    reference, labels, values = made(2, 600)
    values[2] = 20 * values[1] + values[3]
    values[0] = values[2] - 20 * values[1]
    found = climb(ladder_of(reference, labels, (40, 80, 160)), reference, values, [0, 2, 1, 3, 3, 3])
    added = found.variances[2] - 400 * found.variances[1]
    assert found.variances[0] == pytest.approx(added, rel=1e-6, abs=1e-9 * found.variances[2])


def test_a_single_step_is_the_textbook_regression_estimate():
    reference, labels, values = made(3, 400)
    ladder = ladder_of(reference, labels, prefixes=(100,))
    found = climb(ladder, reference, values, [0] * 6)
    seen = ladder.frame.order[:100]
    pi = inclusion(ladder.frame.sizes, 100)[:100]
    x = np.column_stack([labels[seen] == 0, labels[seen] == 1, labels[seen] == 2, reference[seen]]).astype(float)
    m = np.array([*np.bincount(labels) / 400, reference.mean()])
    w = x @ np.linalg.inv(x.T @ (x / pi[:, None])) @ m / pi
    b = np.linalg.lstsq(x / np.sqrt(pi)[:, None], (values[:, seen] / np.sqrt(pi)).T, rcond=None)[0]
    e = values[:, seen].T - x @ b
    np.testing.assert_allclose(found.means, values[:, seen] @ w)
    np.testing.assert_allclose(found.variances, (100 / 96) ** 2 * (w**2 * (1 - pi)) @ e**2)


def test_no_more_regressors_than_a_fifth_of_the_examples():
    """60 points without any error would explain 40 examples to the last digit, and every bar would be 0."""
    reference, labels, _ = made(4, 400)
    values = np.random.default_rng(4).normal(size=(61, 400))
    found = climb(ladder_of(reference, labels, prefixes=(40,)), reference, values, [0, *[1] * 60])
    spread = np.sqrt(found.variances[0]) * np.sqrt(40)
    assert 0.5 < spread < 2.5


def test_the_highest_and_earliest_points_are_the_first_regressors():
    reference, labels, values = made(5, 400, points=40, classes=1)
    values[0] = values[39]
    standing = stand(40, [[(39, 1)], [(point, 1) for point in range(1, 39)]])
    ladder = ladder_of(reference, labels, prefixes=(40,))
    found = estimate(ladder, standing, reference[ladder.frame.order], in_order(ladder, values, standing.levels))
    assert found.means[0] == pytest.approx(values[39].mean())


def test_points_that_are_not_finite_have_no_estimate_and_harm_no_other():
    reference, labels, values = made(6, 300)
    spoilt = np.vstack([values, np.full((2, 300), np.nan)])
    spoilt[6, 1:] = 1
    levels = [0, 0, 1, 0, 0, 2]
    ladder = ladder_of(reference, labels)
    clean = climb(ladder, reference, values, levels)
    found = climb(ladder, reference, spoilt, [*levels, 2, 0])
    np.testing.assert_array_equal(found.means[:6], clean.means)
    np.testing.assert_array_equal(found.variances[:6], clean.variances)
    assert np.isnan(found.means[6:]).all()
    assert found.variances[6:].tolist() == [0, np.inf]


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_without_usable_losses_at_theta_there_is_one_regressor_less(spoilt):
    reference, labels, values = made(7, 300)
    reference[5] = spoilt
    found = climb(ladder_of(reference, labels), reference, values, [0, 0, 0, 1, 1, 2])
    off = np.abs(found.means - values.mean(axis=1))
    assert (off <= 4 * np.sqrt(found.variances) + 1e-12).all()


def test_values_beyond_every_square_have_no_finite_bar():
    reference, labels, values = made(8, 300)
    values[0] *= 1e200
    values[1] *= 1e307
    found = climb(ladder_of(reference, labels), reference, values, [0] * 6)
    assert not np.isfinite(found.variances[:2]).any()
    assert np.isfinite(found.variances[2:]).all()


@pytest.mark.parametrize("labels", [None, np.zeros(300, int), np.arange(300)], ids=["none", "one", "one each"])
def test_no_classes_one_class_and_a_class_for_every_example(labels):
    reference, _, values = made(9, 300)
    found = climb(ladder_of(reference, labels), reference, values, [0, 0, 0, 1, 1, 2])
    off = np.abs(found.means - values.mean(axis=1))
    assert (off <= 4 * np.sqrt(found.variances) + 1e-12).all()
    assert (found.variances[:5] > 0).all()


@pytest.mark.slow
def test_variances_tell_the_spread_over_seeds():
    reference, labels, values = made(10, 400)
    levels = [0, 0, 0, 1, 1, 2]
    draws = [climb(ladder_of(reference, labels, seed=seed), reference, values, levels) for seed in range(300)]
    spread = np.var([found.means for found in draws], axis=0)[:5]
    stated = np.mean([found.variances for found in draws], axis=0)[:5]
    np.testing.assert_allclose(stated / spread, 1, atol=0.35)
