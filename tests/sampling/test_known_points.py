"""What audited points tell about the others, and that each is judged by an estimate that does not know it."""

import numpy as np
import pytest

from landscape_mpi.metrics.base import LOSS
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.sampling import Audit, Rounds, make_frame, relative_bars, run

POINTS, EXAMPLES = 40, 2000


def smooth(seed=0, rough=0.01):
    """Return losses [40, N] along a line: three numbers of each example, and a little that is each point's own."""
    draw = np.random.default_rng(seed)
    alpha = np.linspace(-1, 1, POINTS)
    shapes = np.stack([np.ones(POINTS), alpha**2, 0.3 * (alpha + 1)], axis=1)
    own = rough * draw.exponential(size=(POINTS, EXAMPLES))
    return 0.5 + shapes @ draw.exponential(size=(3, EXAMPLES)) + own


def swept(losses, seed=0, error=0.1):
    """Return the finished rounds of bars of the loss."""
    origin = PerExample(losses[POINTS // 2])
    rounds = Rounds(make_frame(origin.losses, None, seed), origin, POINTS, error)
    run(rounds, lambda point, examples: PerExample(losses[point, examples]))
    return rounds


def audited(rounds, losses, count=12, backwards=False):
    """Return the audit with all that it asks for."""
    audit = Audit(rounds, count, seed=3)
    give(audit, rounds, losses, audit.requests[::-1] if backwards else audit.requests)
    return audit


def give(audit, rounds, losses, requests):
    """Answer requests of an audit."""
    for request in requests:
        examples = rounds.ladder.frame.order[request.start : request.stop]
        audit.take(request, PerExample(losses[request.point, examples]))


def test_the_error_that_points_share_is_gone_once_some_are_known():
    losses = smooth()
    rounds = swept(losses)
    audit = audited(rounds, losses)
    before, after = rounds.estimates(LOSS)["loss"], audit.estimates(LOSS)["loss"]
    others = np.flatnonzero(after.examples < EXAMPLES)
    truths = losses.mean(axis=1)
    off_before, off_after = (np.abs(found.means - truths)[others].mean() for found in (before, after))
    assert off_after < 0.1 * off_before
    assert after.bars[others].mean() < 0.5 * before.bars[others].mean()
    assert (np.abs(after.means - truths) <= after.bars + 1e-12)[others].mean() > 0.8
    assert audit.verdict.passed


@pytest.mark.slow
def test_once_some_points_are_known_no_order_is_wrong_at_half_of_the_others():
    losses = smooth(rough=0.1)
    truths, before, after = losses.mean(axis=1), [], []
    for seed in range(14):
        rounds = swept(losses, seed)
        audit = audited(rounds, losses)
        found = audit.estimates(LOSS)["loss"]
        below = found.examples < EXAMPLES
        for shares, each in ((before, rounds.estimates(LOSS)["loss"]), (after, found)):
            shares.append((np.abs(each.means - truths) <= each.bars)[below].mean())
    assert min(before) <= 0.5
    assert min(after) >= 0.8
    assert 0.93 <= np.mean(after) <= 0.99


@pytest.mark.slow
def test_the_order_in_which_audited_points_come_back_changes_no_bit():
    losses = smooth(rough=0.2)
    rounds = swept(losses)
    one, other = audited(rounds, losses), audited(rounds, losses, backwards=True)
    assert one.verdict == other.verdict
    found = [audit.estimates(LOSS)["loss"] for audit in (one, other)]
    for part in ("means", "bars", "errors"):
        assert getattr(found[0], part).tobytes() == getattr(found[1], part).tobytes()


def test_points_whose_bars_the_audit_leaves_too_wide_are_evaluated_on_all_examples():
    losses = smooth(rough=2.0)
    rounds = swept(losses, error=0.05)
    audit = audited(rounds, losses)
    before, verdict, used = audit.estimates(LOSS)["loss"], audit.verdict, audit.used
    wide = np.flatnonzero(relative_bars(before.means, before.bars) > 0.05)
    assert len(wide) > 3
    requests = audit.complete()
    assert [request.point for request in requests] == wide.tolist()
    assert audit.complete() == ()
    give(audit, rounds, losses, requests)
    after = audit.estimates(LOSS)["loss"]
    np.testing.assert_array_equal(after.means[wide], [exact_mean(losses[point]) for point in wide])
    np.testing.assert_array_equal(after.errors[wide], [mean_and_error(losses[point])[1] for point in wide])
    assert (after.bars <= 0.05 * after.means).all()
    assert (after.bars[wide] == 0).all()
    assert (after.examples[wide] == EXAMPLES).all()
    others = np.setdiff1d(np.arange(POINTS), wide)  # these points tell nothing about the others
    for part in ("means", "bars", "errors", "examples"):
        assert getattr(after, part)[others].tobytes() == getattr(before, part)[others].tobytes()
    assert audit.verdict == verdict
    lacked = sum(request.stop - request.start for request in requests)
    assert audit.used == pytest.approx(used + lacked / losses.size)


def test_a_failed_audit_and_bars_within_the_target_ask_for_nothing_more():
    losses = smooth()
    rounds = swept(losses)
    assert audited(rounds, losses).complete() == ()
    assert audited(rounds, losses, count=0).complete() == ()
    altered = losses.copy()
    altered[:, rounds.ladder.frame.order[-200:]] += 20
    failed = audited(rounds, altered)
    assert not failed.verdict.passed
    told = failed.estimates(LOSS)["loss"]
    assert (relative_bars(told.means, told.bars) > 0.1).sum() > 3  # these would be evaluated if it had passed
    assert failed.complete() == ()


@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_point_is_judged_by_an_estimate_that_does_not_know_it(count):
    """The examples that no prefix holds are worse at one audited point, which nothing else shows."""
    losses = smooth()
    rounds = swept(losses)
    chosen = Audit(rounds, count, seed=3).requests[0]
    altered = losses.copy()
    altered[chosen.point, rounds.ladder.frame.order[chosen.stop - 200 :]] += 20
    found = audited(rounds, altered, count)
    assert found.verdict.misses >= 1
    assert found.verdict.worst > 3
    assert not found.verdict.passed  # by more than twice the target
    known = found.estimates(LOSS)["loss"]
    assert known.means[chosen.point] == exact_mean(altered[chosen.point])
    assert known.bars[chosen.point] == 0
