"""Honesty on real losses: bars that hold as often as they say, and an audit that sees it when they do not."""

import json
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest

from landscape_mpi.metrics import base


@pytest.fixture
def outcomes(staircase, emulation):
    """Draw a few orders at a target."""

    def drawn(error, draws, frame=emulation.frame):
        rounds = (emulation.draw(error, seed, frame(seed)) for seed in range(draws))
        return [staircase.outcome(emulation, each, seed) for seed, each in enumerate(rounds)]

    return drawn


@pytest.mark.slow(15)
@pytest.mark.parametrize(
    ("error", "draws", "used"), [(0.1, 12, 0.02), (0.05, 8, 0.03), pytest.param(0.02, 6, 0.1, marks=pytest.mark.slow)]
)
def test_bars_cover_the_truth_as_often_as_they_say(outcomes, error, draws, used):
    found = outcomes(error, draws)
    assert 0.93 <= mean(outcome.covered for outcome in found) <= 0.99
    assert 0.93 <= mean(outcome.accuracy_covered for outcome in found) <= 0.99
    assert mean(outcome.within for outcome in found) >= 0.98
    assert mean(outcome.used for outcome in found) < used


@pytest.mark.slow
def test_the_benchmark_prints_and_writes_its_figures(staircase, emulation, shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(staircase, "ERRORS", (0.1,))
    monkeypatch.setattr(staircase, "estimation_seconds", lambda _: 0.5)
    written = tmp_path / "figures.json"
    losses = shared_data / "losses-resnet20-17x17.npz"
    assert staircase.main(["--losses", str(losses), "--draws", "2", "--json", str(written)]) == 0
    (row,) = json.loads(written.read_text())["rows"]
    assert row["used"] == pytest.approx(1 / row["factor"])
    assert f"{row['used']:.2%}" in capsys.readouterr().out


@pytest.mark.slow
def test_estimating_many_points_again_is_timed(staircase, emulation):
    assert staircase.estimation_seconds(emulation, error=0.1, points=300, repeats=1) > 0


@pytest.mark.slow
def test_an_honest_estimator_passes_its_audit(outcomes):
    assert sum(outcome.audit.passed for outcome in outcomes(0.05, 4)) >= 3


@pytest.mark.slow
def test_an_estimator_with_bars_half_as_wide_fails_its_audit(outcomes, monkeypatch):
    monkeypatch.setattr(base, "QUANTILE", base.QUANTILE / 2)
    assert sum(outcome.audit.passed for outcome in outcomes(0.05, 4)) <= 1


@pytest.mark.slow
def test_an_order_that_puts_easy_examples_first_fails_the_audit(outcomes, emulation):
    """Easy at a point between the minimum and the edge: losses at theta* are a regressor, and would undo the harm."""
    hardness = np.repeat(emulation.losses[len(emulation.losses) // 2 + 4], emulation.copies)

    def biased(seed):
        frame = emulation.frame(seed)
        keys = np.empty(len(hardness))
        keys[frame.order] = np.arange(len(hardness)) + 0.5
        order = np.argsort(keys * (1 + 2 * hardness / hardness.mean()), kind="stable")
        place = keys[order].astype(int)
        return replace(frame, order=order, sizes=frame.sizes[place], classes=frame.classes[place])

    assert not any(outcome.audit.passed for outcome in outcomes(0.05, 4, biased))
