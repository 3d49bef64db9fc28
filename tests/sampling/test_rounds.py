"""The rounds against an engine that is an array."""

import json
from fractions import Fraction

import numpy as np
import pytest

from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.examples import PerExample, exact_mean, mean_and_error
from landscape_mpi.sampling import Audit, Rounds, make_frame, relative_bars, run

POINTS, EXAMPLES, ERROR = 30, 3000, 0.08


def losses(points=POINTS, examples=EXAMPLES, seed=0):
    """Return losses [points, N] from theta* (point 0) outwards: a few hard examples near it, all of them far away."""
    draw = np.random.default_rng(seed)
    hard = draw.exponential(size=examples) ** 3
    away = np.linspace(0, 1, points)[:, None]
    rough = draw.exponential(size=(points, examples)) ** 2
    return (0.05 * hard + away * (1 + draw.random(examples) + rough)).astype(np.float32)


class Engine:
    """Losses that are all known, of which it is asked for some."""

    def __init__(self, values, error=ERROR, log=(), labels=None, hits=False, **known):
        self.values, self.hits = values, values < 0.5 if hits else None
        self.evaluated = np.zeros(values.shape, int)
        origin = PerExample(values[0], {"acc": self.hits[0]} if hits else {})
        labels = np.arange(values.shape[1]) % 10 if labels is None else labels
        self.rounds = Rounds(make_frame(values[0], labels, 1), origin, len(values), error, log, **known)

    def __call__(self, point, examples):
        self.evaluated[point, examples] += 1
        others = {} if self.hits is None else {"acc": self.hits[point, examples]}
        return PerExample(self.values[point, examples], others)

    def answer(self, request):
        examples = self.rounds.ladder.frame.order[request.start : request.stop]
        self.rounds.take(request, self(request.point, examples))

    def run(self):
        run(self.rounds, self)
        return self


def test_the_rounds_end_when_all_bars_hold_and_evaluate_nothing_twice():
    engine = Engine(losses()).run()
    found = engine.rounds.estimates(LOSS)["loss"]
    assert (relative_bars(found.means, found.bars) <= ERROR).all()
    assert engine.evaluated.max() == 1
    np.testing.assert_array_equal(engine.evaluated.sum(axis=1), found.examples)
    assert 0 < engine.rounds.used == engine.evaluated.mean() < 0.5
    assert (found.examples == 400).any()
    assert (np.abs(found.means - engine.values.mean(axis=1)) <= 2 * found.bars + 1e-6).all()


@pytest.mark.parametrize("floor", [None, 1e-3], ids=["loss", "rise"])
def test_the_point_of_theta_itself_is_known_and_never_evaluated(floor):
    engine = Engine(losses(), own=0, floor=floor, hits=True).run()
    assert engine.evaluated[0].sum() == 0
    assert engine.rounds.used == pytest.approx(engine.evaluated.mean() + 1 / POINTS)
    for metric, values in ((LOSS, engine.values), (ACCURACY, 100.0 * engine.hits)):
        (found,) = engine.rounds.estimates(metric).values()
        assert found.means[0] == pytest.approx(values[0].astype(float).mean(), rel=1e-12)
        assert (found.bars[0], found.examples[0]) == (0, EXAMPLES)
        assert (np.abs(found.means - values.mean(axis=1)) <= 2 * found.bars + 1e-6).all()
    alone = Engine(losses(), floor=floor).run().rounds.estimates(LOSS)["loss"]
    np.testing.assert_allclose(engine.rounds.estimates(LOSS)["loss"].bars[1:], alone.bars[1:], rtol=0.5)


def test_a_round_is_a_list_of_slices_that_go_on_where_the_points_stand():
    engine = Engine(losses())
    first = engine.rounds.next()
    assert [(request.point, request.start, request.stop) for request in first] == [(g, 0, 400) for g in range(POINTS)]
    for request in first:
        engine.answer(request)
    second = engine.rounds.next()
    assert 0 < len(second) <= 8
    assert all(request.start == 400 and request.stop in {800, 1600, 3000} for request in second)
    assert [request.point for request in second] == [point for point, _ in engine.rounds.log[0]]


def test_results_may_arrive_in_any_order():
    straight, shuffled = Engine(losses()).run(), Engine(losses())
    draw = np.random.default_rng(3)
    while requests := shuffled.rounds.next():
        for index in draw.permutation(len(requests)):
            shuffled.answer(requests[index])
    assert straight.rounds.log == shuffled.rounds.log
    for part in ("means", "bars", "examples"):
        one, other = (getattr(engine.rounds.estimates(LOSS)["loss"], part) for engine in (straight, shuffled))
        assert one.tobytes() == other.tobytes()


def test_a_replay_of_the_log_gives_the_same_bits_and_decides_nothing(monkeypatch):
    engine = Engine(losses()).run()
    log = json.loads(json.dumps(engine.rounds.log))
    for known in range(len(log) + 1):
        again = Engine(losses(), log=log[:known]).run()
        assert again.rounds.log == engine.rounds.log
        assert (
            again.rounds.estimates(LOSS)["loss"].means.tobytes()
            == engine.rounds.estimates(LOSS)["loss"].means.tobytes()
        )


def test_an_earlier_log_is_obeyed_even_where_today_would_decide_otherwise():
    engine = Engine(losses(), log=[[[5, 2]]])
    for request in engine.rounds.next():
        engine.answer(request)
    assert [(request.point, request.stop) for request in engine.rounds.next()] == [(5, 1600)]


@pytest.mark.slow
def test_on_all_examples_means_are_those_of_the_full_sweep_bit_for_bit():
    values = losses()
    found = Engine(values, error=0.0).run().rounds.estimates(LOSS)["loss"]
    np.testing.assert_array_equal(found.means, [float(sum(map(Fraction, row.tolist()))) / EXAMPLES for row in values])
    np.testing.assert_array_equal(found.bars, 0)
    np.testing.assert_array_equal(found.examples, EXAMPLES)


@pytest.mark.parametrize(
    ("error", "examples", "why"),
    [(0.0, EXAMPLES, "asks for them"), (0.05, 399, "first level alone"), (0.0005, EXAMPLES, "save nothing")],
)
def test_where_nothing_can_be_saved_everything_is_evaluated_at_once(error, examples, why):
    engine = Engine(losses(5, examples), error=error)
    assert why in engine.rounds.why_all
    assert {(request.start, request.stop) for request in engine.rounds.next()} == {(0, examples)}


def test_when_three_quarters_are_used_the_rest_is_evaluated_too():
    draw = np.random.default_rng(0)
    engine = Engine(draw.exponential(size=(6, 2000)), error=0.003).run()
    assert "not enough" in engine.rounds.why_all
    assert engine.rounds.used == 1
    assert (engine.rounds.estimates(LOSS)["loss"].bars == 0).all()


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_a_point_that_is_not_finite_goes_to_the_top_and_shows_it(spoilt):
    values = losses()
    values[7] = np.where(np.arange(EXAMPLES) % 3 == 0, spoilt, values[7])
    engine = Engine(values).run()
    found = engine.rounds.estimates(LOSS)["loss"]
    assert found.examples[7] == EXAMPLES
    np.testing.assert_array_equal(found.means[7], spoilt)
    assert found.bars[7] == 0
    clean = np.delete(np.arange(POINTS), 7)
    assert (relative_bars(found.means, found.bars)[clean] <= ERROR).all()
    assert engine.rounds.used < 0.5


def test_losses_that_are_all_zero_are_believed_only_once_all_are_seen():
    values = losses()
    values[3] = 0
    found = Engine(values).run().rounds.estimates(LOSS)["loss"]
    assert (found.means[3], found.bars[3], found.examples[3]) == (0, 0, EXAMPLES)


def test_zero_at_theta_too():
    values = losses()
    values[0] = 0
    found = Engine(values).run().rounds.estimates(LOSS)["loss"]
    assert (np.abs(found.means - values.mean(axis=1)) <= 2 * found.bars + 1e-6).all()


@pytest.mark.parametrize("labels", [np.zeros(EXAMPLES, int), np.arange(EXAMPLES), np.arange(EXAMPLES) == 0])
def test_one_class_a_thousand_and_one_with_a_single_example(labels):
    engine = Engine(losses(), labels=labels).run()
    found = engine.rounds.estimates(LOSS)["loss"]
    assert (np.abs(found.means - engine.values.mean(axis=1)) <= 2 * found.bars + 1e-6).all()
    assert engine.rounds.used < 0.6


def test_accuracy_has_a_bar_of_its_own():
    engine = Engine(losses(), hits=True).run()
    found = engine.rounds.estimates(ACCURACY)["acc"]
    truth = 100 * engine.hits.mean(axis=1)
    below = found.examples < EXAMPLES
    assert (np.abs(found.means - truth) <= 1.5 * found.bars + 1e-9).all()
    assert (found.bars[below] >= 300 / found.examples[below]).all()
    np.testing.assert_array_equal(found.examples, engine.rounds.estimates(LOSS)["loss"].examples)


def test_before_the_first_level_is_complete_some_points_have_estimates():
    engine = Engine(losses(), hits=True)
    requests = engine.rounds.next()
    for request in requests[::2]:
        engine.answer(request)
    for found in (engine.rounds.estimates(LOSS)["loss"], engine.rounds.estimates(ACCURACY)["acc"]):
        assert np.isfinite(found.bars[::2]).all()
        assert np.isnan(found.means[1::2]).all()
        assert np.isinf(found.bars[1::2]).all()
        np.testing.assert_array_equal(found.examples, [400, 0] * 15)


def test_a_lost_point_has_no_estimate_and_the_others_go_on():
    engine = Engine(losses())
    while requests := engine.rounds.next():
        for request in requests:
            (engine.rounds.lose if request.point == 11 else engine.answer)(request)
    found = engine.rounds.estimates(LOSS)["loss"]
    assert np.isnan(found.means[11])
    assert found.examples[11] == 0
    assert (np.delete(relative_bars(found.means, found.bars), 11) <= ERROR).all()


def test_a_round_awaits_all_its_results_and_each_once():
    engine = Engine(losses())
    requests = engine.rounds.next()
    with pytest.raises(RuntimeError, match="30 results of this round are awaited"):
        engine.rounds.next()
    engine.answer(requests[0])
    with pytest.raises(ValueError, match="not awaited"):
        engine.answer(requests[0])
    with pytest.raises(ValueError, match=r"came back with 3 losses and .*; expected 400"):
        engine.rounds.take(requests[1], PerExample(np.zeros(3)))
    with pytest.raises(ValueError, match=r"400 losses and \['acc'\]; expected 400, and \[\] as at theta"):
        engine.rounds.take(requests[1], PerExample(np.zeros(400), {"acc": np.zeros(400, bool)}))
    with pytest.raises(KeyError, match="acc"):
        engine.rounds.estimates(ACCURACY)["acc"]


def test_standard_errors_are_about_those_of_a_full_sweep_and_exact_on_all_examples():
    values = losses()
    values[7, 5] = np.inf
    engine = Engine(values, hits=True).run()
    loss, accuracy = engine.rounds.estimates(LOSS)["loss"], engine.rounds.estimates(ACCURACY)["acc"]
    full = np.array([mean_and_error(row.astype(float))[1] for row in values])
    below = loss.examples < EXAMPLES
    assert below.any()
    np.testing.assert_allclose(loss.errors[below], full[below], rtol=0.5)
    np.testing.assert_array_equal(loss.errors[~below], full[~below])
    assert np.isnan(loss.errors[7])
    full = [mean_and_error(100.0 * row)[1] for row in engine.hits]
    np.testing.assert_allclose(accuracy.errors, full, rtol=0.5, atol=0.3)


def test_the_outlook_is_about_what_comes_and_ends_at_nothing():
    engine, expected = Engine(losses()), []
    while requests := engine.rounds.next():
        for request in requests:
            engine.answer(request)
        expected.append((engine.evaluated.sum(), engine.rounds.outlook))
    used = engine.evaluated.sum()
    assert len(expected) > 2
    assert 0.8 * used < expected[0][0] + expected[0][1] < 5 * used
    assert expected[-1] == (used, 0)
    assert Engine(losses(5, 399)).rounds.outlook == 5 * 399


def audited(engine, count):
    """Audit a finished run."""
    audit = Audit(engine.rounds, count, seed=5)
    for request in audit.requests:
        examples = engine.rounds.ladder.frame.order[request.start : request.stop]
        audit.take(request, engine(request.point, examples))
    return audit


@pytest.mark.slow
def test_an_audit_evaluates_what_its_points_lack_and_puts_the_truth_in_their_places():
    engine = Engine(losses(), hits=True).run()
    before = engine.rounds.estimates(LOSS)["loss"]
    audit = audited(engine, 8)
    points = [request.point for request in audit.requests]
    assert engine.evaluated.max() == 1
    assert len(set(points)) == audit.verdict.points == 8
    found = audit.estimates(LOSS)["loss"]
    np.testing.assert_array_equal(found.means[points], [exact_mean(row) for row in engine.values[points]])
    np.testing.assert_allclose(
        audit.estimates(ACCURACY)["acc"].means[points], 100 * engine.hits[points].mean(axis=1), rtol=1e-12
    )
    assert (found.bars[points] == 0).all()
    assert (found.examples[points] == EXAMPLES).all()
    assert engine.rounds.estimates(LOSS)["loss"].means.tobytes() == before.means.tobytes()
    assert audit.verdict.passed


def test_an_audit_of_points_on_all_examples_has_nothing_to_ask():
    audit = audited(Engine(losses(5, 399)).run(), 8)
    assert audit.requests == ()
    assert (audit.verdict.points, audit.verdict.passed) == (0, True)
    with pytest.raises(KeyError, match="acc"):
        audit.estimates(ACCURACY)["acc"]
