"""The benchmark of data made to deceive error bars prints what it found of each case, once for each kind of bars."""

import numpy as np
import pytest


@pytest.fixture
def hostile(benchmark_named):
    return benchmark_named("hostile")


@pytest.mark.slow
def test_a_row_for_each_kind_of_bars(hostile, capsys):
    assert hostile.main(["--draws", "1", "--only", "30 examples"]) == 0
    head, _, *rows = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert [row[:2] for row in rows] == [["30 examples", "loss"], ["30 examples", "rise"]]
    assert {row[head.index("used")] for row in rows} == {"100.0%"}


def test_carriers_have_nine_tenths_of_the_rise_and_nothing_at_theta(hostile):
    losses, _ = hostile.basin(np.random.default_rng(0), 2000)
    made = hostile.carried(losses, np.random.default_rng(1), each=False)
    np.testing.assert_allclose(made[hostile.CENTRE], losses[hostile.CENTRE], rtol=0, atol=1e-9)
    rises = made[0] - made[hostile.CENTRE]
    assert np.sort(rises)[-2:].sum() / rises.sum() == pytest.approx(0.9, abs=0.06)
