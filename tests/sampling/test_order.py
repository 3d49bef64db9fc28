"""Order of the examples, inclusion probabilities, levels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landscape_mpi.sampling.order import example_order, example_sizes, inclusion, make_frame, uniforms
from landscape_mpi.sampling.plan import all_examples_because, first_level, prefixes

SIZES = st.integers(1, 60).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(0.5, 1000)))
FIRST_HASHES = [104003916602523, 2175681743263001, 1003634882753029]


def test_sizes_are_a_half_and_half_the_root_of_the_relative_loss():
    np.testing.assert_allclose(example_sizes(np.array([0.0, 0.0, 0.0, 4.0])), [0.5, 0.5, 0.5, 1.5])


@pytest.mark.parametrize("losses", [[0.0, 0.0], [1.0, np.nan], [1.0, np.inf], [-0.0, 0.0], [-1.0, -2.0]])
def test_without_usable_losses_at_theta_all_examples_are_alike(losses):
    np.testing.assert_array_equal(example_sizes(np.array(losses)), 1.0)


def test_a_uniform_number_depends_on_seed_stream_and_its_index_alone():
    many = uniforms(7, 1000)
    np.testing.assert_array_equal(many[:10], uniforms(7, 10))
    assert ((many > 0) & (many < 1)).all()
    assert len(set(many)) == 1000
    for other in (uniforms(8, 1000), uniforms(7, 1000, stream=1)):
        assert abs(np.corrcoef(many, other)[0, 1]) < 0.15


def test_the_hash_never_changes():
    """A resumed job must find the order it started with, whatever the versions."""
    np.testing.assert_array_equal((uniforms(0, 3) * 2**53).astype(np.int64), FIRST_HASHES)


def test_the_order_is_ascending_in_u_over_s_and_holds_every_example_once():
    sizes = np.array([1.0, 4.0, 1.0, 2.0])
    np.testing.assert_array_equal(example_order(sizes, np.array([0.5, 0.4, 0.2, 0.9])), [1, 2, 3, 0])


def test_a_frame_keeps_sizes_and_classes_with_their_examples():
    reference = np.linspace(0, 5, 50)
    frame = make_frame(reference, np.arange(50) % 3 + 7, seed=3)
    np.testing.assert_array_equal(np.sort(frame.order), np.arange(50))
    np.testing.assert_array_equal(frame.sizes, example_sizes(reference)[frame.order])
    np.testing.assert_array_equal(frame.classes, frame.order % 3)


@pytest.mark.parametrize(("losses", "labels"), [([], None), ([1.0, 2.0], [1])])
def test_a_frame_of_nothing_or_with_other_labels_is_refused(losses, labels):
    with pytest.raises(ValueError, match="expected one per example"):
        make_frame(np.array(losses), labels if labels is None else np.array(labels), seed=0)


@pytest.mark.slow
@given(SIZES, st.data())
def test_inclusion_probabilities_sum_to_n_and_grow_with_the_prefix_and_the_size(sizes, data):
    n = data.draw(st.integers(0, len(sizes)))
    pi = inclusion(sizes, n)
    assert ((pi >= 0) & (pi <= 1)).all()
    assert pi.sum() == pytest.approx(n)
    assert (np.diff(pi[np.argsort(sizes)]) >= -1e-12).all()
    if n < len(sizes):
        assert (inclusion(sizes, n + 1) >= pi - 1e-12).all()


def test_examples_too_large_are_taken_for_certain_again_and_again():
    np.testing.assert_allclose(inclusion(np.array([100.0, 10.0, 1.0, 1.0]), 3), [1, 1, 0.5, 0.5])


@pytest.mark.parametrize("n", [-1, 3])
def test_a_prefix_beyond_the_examples_is_refused(n):
    with pytest.raises(ValueError, match="expected 0 to 2"):
        inclusion(np.ones(2), n)


def test_prefixes_hold_the_examples_as_often_as_stated():
    """Over 4,000 seeds: the standard error of a share is at most .008; order sampling itself is off by far less."""
    reference = np.geomspace(0.01, 30, 60)
    sizes = example_sizes(reference)
    seen = np.zeros(60)
    for seed in range(4000):
        seen[example_order(sizes, uniforms(seed, 60))[:20]] += 1
    np.testing.assert_allclose(seen / 4000, inclusion(sizes, 20), atol=0.035)
    assert np.ptp(inclusion(sizes, 20)) > 0.4


@pytest.mark.parametrize(("error", "n"), [(0.1, 400), (0.05, 400), (0.02, 800), (0.01, 1000), (0.005, 1000)])
def test_the_first_level_of_a_target(error, n):
    assert first_level(error) == n


def test_between_targets_the_first_level_is_interpolated():
    assert 400 < first_level(0.03) < 800 < first_level(0.015) < 1000


def test_levels_double_up_to_all_examples():
    assert prefixes(0.02, 50_000) == (800, 1600, 3200, 6400, 12_800, 25_600, 50_000)
    assert prefixes(0.05, 800) == (400, 800)
    assert prefixes(0.05, 801) == (400, 800, 801)


@pytest.mark.parametrize(
    ("error", "examples", "why"),
    [(0, 50_000, "error: 0"), (0.05, 400, "first level alone takes 400"), (0.001, 50_000, "save nothing")],
)
def test_where_nothing_can_be_saved_there_is_one_level_and_a_reason(error, examples, why):
    assert why in all_examples_because(error, examples)
    assert prefixes(error, examples) == (examples,)


@pytest.mark.parametrize(("error", "examples"), [(-0.1, 10), (float("nan"), 10), (0.1, 0)])
def test_a_target_that_is_none_is_refused(error, examples):
    with pytest.raises(ValueError, match="correct the job"):
        prefixes(error, examples)
