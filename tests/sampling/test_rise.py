"""Bars of f - f(0, 0): paired differences, points evaluated first, Student's bars, and data made to deceive them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import PerExample, exact_mean
from landscape_mpi.sampling import Audit, Rounds, make_frame, relative_bars, run
from landscape_mpi.sampling.audit import spread_points
from landscape_mpi.sampling.estimate import Estimates, freedom
from landscape_mpi.sampling.plan import all_examples_because, first_level, prefixes
from landscape_mpi.sampling.rise import first_that_holds, pilot_points, rise_bars, rise_sizes, students

ERROR, FLOOR = 0.05, 1e-3
AXES = (np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
CENTRE = 40


def landscape(seed, examples=8000):
    """Return losses [81, N] of a smooth basin: each example has a slope and a curvature of its own."""
    draw = np.random.default_rng(seed)
    beta, alpha = np.meshgrid(AXES[1], AXES[0], indexing="ij")
    places = np.stack([alpha.ravel(), beta.ravel()])
    slopes, hard = draw.normal(size=(examples, 2)), draw.exponential(size=examples) ** 2
    squares = np.square(places).sum(axis=0)[:, None]
    return 0.2 * hard + np.square(slopes @ places).T + squares * (0.5 + draw.exponential(size=examples))


def sampled(losses, seed=0, first=True, error=ERROR, floor=FLOOR, level=None):
    """Run all rounds for bars of the rise."""
    origin = PerExample(losses[CENTRE])
    points = pilot_points(AXES) if first else ()
    pilots = {point: PerExample(losses[point]) for point in points}
    sizes = rise_sizes(origin.losses, [one.losses for one in pilots.values()])
    rounds = Rounds(make_frame(origin.losses, None, seed, sizes=sizes), origin, 81, error, (), floor, pilots, level)
    run(rounds, lambda point, examples: PerExample(losses[point, examples]))
    return rounds


def within(rounds, losses):
    """Return the share of the points below the top whose truth is within their bar."""
    found = rounds.estimates(LOSS)["loss"]
    off = np.abs(found.means - losses.mean(axis=1))
    below = found.examples < losses.shape[1]
    return (off <= found.bars + 1e-12)[below].mean() if below.any() else 1.0


def test_every_bar_is_within_the_target_of_the_rise_or_the_floor():
    losses = landscape(0)
    rounds = sampled(losses)
    found = rounds.estimates(LOSS)["loss"]
    centre = exact_mean(losses[CENTRE])
    wanted = np.maximum(ERROR * np.abs(found.means - centre), FLOOR * centre)
    assert (found.bars <= wanted * (1 + 1e-9)).all()
    assert rounds.used < 0.2


def test_at_theta_the_rise_is_zero_without_a_bar():
    found = sampled(landscape(0)).estimates(LOSS)["loss"]
    assert found.means[CENTRE] == pytest.approx(exact_mean(landscape(0)[CENTRE]), rel=1e-14)
    assert found.bars[CENTRE] == 0


def test_near_theta_bars_of_the_loss_hide_the_rise_and_these_do_not():
    losses = landscape(0)
    near = losses[CENTRE] + 1e-4 * (losses - losses[CENTRE])
    plain = Rounds(make_frame(near[CENTRE], None, 0), PerExample(near[CENTRE]), 81, ERROR)
    run(plain, lambda point, examples: PerExample(near[point, examples]))
    truth = near.mean(axis=1) - near[CENTRE].mean()
    steep = truth > 0
    assert (plain.estimates(LOSS)["loss"].bars[steep] > truth[steep]).any()
    found = sampled(near, floor=1e-9).estimates(LOSS)["loss"]
    assert (found.bars[steep] <= 1.1 * ERROR * truth[steep]).all()


def test_what_stands_on_all_examples_has_the_mean_of_a_full_sweep_to_the_last_bit():
    losses = landscape(1, examples=100)
    rounds = sampled(losses)
    assert "there are 100" in rounds.why_all
    found = rounds.estimates(LOSS)["loss"]
    np.testing.assert_array_equal(found.means, [exact_mean(row) for row in losses])
    np.testing.assert_array_equal(found.bars, 0)
    large = landscape(1)
    points = list(pilot_points(AXES))
    found = sampled(large).estimates(LOSS)["loss"]
    np.testing.assert_array_equal(found.means[points], [exact_mean(large[point]) for point in points])
    np.testing.assert_array_equal(found.examples[points], 8000)


def test_a_rise_that_is_not_there_is_no_number_and_everything_is_evaluated():
    losses = landscape(0, examples=2000)
    losses[CENTRE, 3] = np.inf
    rounds = sampled(losses)
    assert "not finite" in rounds.why_all
    found = rounds.estimates(LOSS)["loss"]
    np.testing.assert_array_equal(found.means, [exact_mean(row) for row in losses])
    assert rounds.used == 1


def test_losses_of_zero_at_theta_have_a_rise_too():
    losses = landscape(0)
    losses[CENTRE] = 0.0
    rounds = sampled(losses)
    found = rounds.estimates(LOSS)["loss"]
    assert (relative_bars(found.means, found.bars)[found.means != 0] <= ERROR).all()
    assert found.examples[CENTRE] == 8000


def test_a_replay_of_the_log_gives_the_same_bits():
    losses = landscape(3)
    one = sampled(losses)
    pilots = {point: PerExample(losses[point]) for point in pilot_points(AXES)}
    other = Rounds(one.ladder.frame, PerExample(losses[CENTRE]), 81, ERROR, one.log, FLOOR, pilots)
    run(other, lambda point, examples: PerExample(losses[point, examples]))
    for part in ("means", "bars"):
        found = [getattr(rounds.estimates(LOSS)["loss"], part).tobytes() for rounds in (one, other)]
        assert found[0] == found[1]


def carried(losses, seed, each=False):
    """Let 0.1 % of the examples carry 90 % of the rise; the same everywhere, or others at each point."""
    draw = np.random.default_rng(seed)
    made, count = losses.copy(), losses.shape[1] // 1000
    rises = losses.mean(axis=1) - losses[CENTRE].mean()
    same = draw.choice(losses.shape[1], count, replace=False)
    for point, rise in enumerate(rises):
        chosen = draw.choice(losses.shape[1], count, replace=False) if each else same
        made[point, chosen] += 9 * rise * losses.shape[1] / count
    return made


def tried(losses, seed=0):
    """Return the first level that holds on the points evaluated first."""
    pilots = [losses[point] for point in pilot_points(AXES)]
    levels = prefixes(ERROR, losses.shape[1], "rise")
    return first_that_holds(losses[CENTRE], None, pilots, levels, ERROR, FLOOR * losses[CENTRE].mean(), seed)


@pytest.mark.slow
def test_on_a_smooth_basin_the_first_level_is_that_of_the_target():
    assert tried(landscape(0, 4000)) == 400


@pytest.mark.slow
def test_where_each_point_has_carriers_of_its_own_the_first_level_is_larger_and_bars_hold():
    """400 of 4,000 examples may hold no carrier of any point, and then nothing in them is a sign of one."""
    losses, unlucky = carried(landscape(0, 4000), 0, each=True), 2
    assert within(sampled(losses, unlucky), losses) < 0.1
    assert tried(losses) >= 1600
    assert within(sampled(losses, unlucky, level=tried(losses)), losses) > 0.9


@pytest.mark.slow
def test_bars_that_miss_what_no_example_shows_fail_the_audit():
    losses, unlucky = carried(landscape(0, 4000), 0, each=True), 2
    verdict = audited(sampled(losses, unlucky), losses)
    assert not verdict.passed
    assert verdict.farthest > 5  # the rise is ten times what was estimated, and the target a twentieth
    honest = landscape(0, 4000)
    assert audited(sampled(honest), honest).passed


def audited(rounds, losses):
    """Return what an audit finds."""
    audit = Audit(rounds, 32, seed=0)
    for request in audit.requests:
        examples = rounds.ladder.frame.order[request.start : request.stop]
        audit.take(request, PerExample(losses[request.point, examples]))
    return audit.verdict


def test_an_audit_of_rises_looks_at_every_level_and_at_low_and_high_rises():
    levels = np.r_[np.zeros(60, int), np.full(4, 1), np.full(2, 2), np.full(5, 3)]
    means = np.arange(71.0)
    chosen = spread_points(levels, means, 3, 16, seed=1)
    assert np.bincount(levels[chosen], minlength=4).tolist() == [10, 4, 2, 0]
    low = means[chosen[levels[chosen] == 0]]
    assert (low < 12).any()
    assert (low > 48).any()
    assert len(spread_points(levels, means, 3, 500, seed=1)) == 66
    assert len(spread_points(levels, means, 3, 0, seed=1)) == 0


def test_a_thousandth_that_carries_the_rise_comes_first_in_the_order():
    losses = carried(landscape(0, 10_000), 0)
    carriers = np.argsort(losses[0] - landscape(0, 10_000)[0])[-10:]
    order = sampled(losses).ladder.frame.order
    assert np.isin(carriers, order[:400]).all()
    assert not np.isin(carriers, sampled(losses, first=False).ladder.frame.order[:400]).all()
    assert within(sampled(losses), losses) > 0.93


def test_nothing_is_tried_without_points_evaluated_first():
    assert first_that_holds(np.ones(900), None, [], (400, 800, 900), ERROR, 0.0, 0) == 400
    assert first_that_holds(np.ones(900), None, [np.full(900, np.nan)], (400, 800, 900), ERROR, 0.0, 0) == 400


@pytest.mark.slow
@given(st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_points_evaluated_first_are_few_and_never_theta(counts):
    axes = [np.linspace(-1, 1, count) if count > 1 else np.zeros(1) for count in counts]
    points = pilot_points(axes)
    total = int(np.prod(counts))
    assert len(points) == len(set(points)) <= max(0, total // 12)
    places = np.stack(np.meshgrid(*reversed(axes), indexing="ij"), -1).reshape(-1, len(axes))
    assert (np.abs(places[list(points)]).sum(axis=1) > 0).all()


def test_points_evaluated_first_lie_near_and_far_and_not_along_one_line():
    near, far = sorted(pilot_points(AXES), key=lambda point: np.hypot(*(divmod(point, 9) - np.array([4, 4]))))
    places = [np.array(divmod(point, 9)[::-1]) - 4 for point in (near, far)]
    assert np.linalg.norm(places[0]) < 0.75 * np.linalg.norm(places[1])
    assert places[0] @ places[1] <= 0


def test_sizes_follow_what_rises_and_none_is_small():
    reference = np.ones(1000)
    values = reference + np.r_[np.full(999, 0.1), 90.0]
    sizes = rise_sizes(reference, [values])
    assert sizes[-1] > 100 * sizes[0]
    assert sizes.min() >= 0.25
    np.testing.assert_array_equal(rise_sizes(reference, [reference]), rise_sizes(reference, []))  # nothing rises
    assert np.isfinite(rise_sizes(reference, [np.full(1000, np.nan)])).all()


def test_degrees_of_freedom_are_n_less_one_of_normal_errors_and_two_of_a_single_one():
    draw = np.random.default_rng(0)
    assert freedom(draw.normal(size=(4000, 5))) == pytest.approx(np.full(5, 4000), rel=0.1)
    single = np.zeros((400, 1))
    single[7] = 3.0
    assert freedom(single) == pytest.approx(2.0, rel=0.01)
    assert np.isinf(freedom(np.zeros((5, 1)))).all()


def test_bars_are_students_with_a_floor():
    found = Estimates(np.ones(3), np.array([1.0, 1.0, 0.0]), np.zeros((1, 3)), np.full(3, 4.0), np.array([2, 1e9, 1]))
    np.testing.assert_allclose(rise_bars(found, 400), [4.303, 1.96, 0.01], rtol=1e-3)
    assert (np.diff(students(np.arange(1.0, 100))) < 0).all()


@pytest.mark.parametrize(("error", "examples", "first"), [(0.05, 50_000, 400), (0.05, 1000, 125), (0.05, 220, 54)])
def test_of_few_examples_the_first_level_takes_an_eighth_or_what_bars_need(error, examples, first):
    assert first_level(error, examples, "rise") == first
    assert prefixes(error, examples, "rise")[0] == first
    assert not all_examples_because(error, examples, "rise")
    assert all_examples_because(error, 150, "rise")
