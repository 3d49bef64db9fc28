"""The model of the coordination against cases with a formula, and real sleeping ranks."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.launch import launch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
queueing, scaling, sleepers = (importlib.import_module(name) for name in ("queueing", "scaling", "sleepers"))
Costs, Naps, efficiency, wall_time = queueing.Costs, queueing.Naps, queueing.efficiency, queueing.wall_time

NAPS = Naps(first=0.0001, growth=1.25, longest=0.005)
moments = st.floats(0, 10, allow_subnormal=False)


def test_one_rank_loses_what_its_own_points_cost():
    costs = Costs(service=9.0, late=0.1, work=0.15, naps=NAPS)
    assert efficiency(1, [1.0] * 7, costs) == pytest.approx(1 / 1.25)


@pytest.mark.parametrize("ranks", [1, 2, 7, 64])
def test_nothing_is_lost_where_nothing_costs(ranks):
    assert efficiency(ranks, [0.1] * (ranks * 5), Costs()) == pytest.approx(1)


def test_too_few_points_leave_ranks_idle():
    assert efficiency(8, [1.0] * 2, Costs()) == pytest.approx(2 / 8)


def test_a_long_last_point_is_waited_for():
    assert wall_time(4, [1.0] * 8 + [5.0], Costs()) == pytest.approx(7)


@pytest.mark.parametrize("ranks", [10, 50])
def test_a_saturated_coordinator_sets_the_rate_and_rank_0_adds_its_own(ranks):
    points = [1.0] * 10_000
    expected = len(points) / (1 / 0.5 + 1 / 1.0)
    assert wall_time(ranks, points, Costs(service=0.5)) == pytest.approx(expected, rel=0.03)


def test_a_coordinator_that_is_fast_enough_hides_behind_the_points():
    # 9 ranks ask once per second each: 0.1 s an answer is just in time, but for the first round
    assert wall_time(10, [1.0] * 500, Costs(service=0.1)) == pytest.approx(50 + 0.9)


def test_few_cores_set_the_rate_of_work():
    costs = Costs(work=0.01, cores=2)
    assert wall_time(16, [0.02] * 1600, costs) == pytest.approx(1600 * 0.01 / 2, rel=0.03)
    assert efficiency(2, [0.02] * 200, costs) == pytest.approx(2 / 3)


@given(moments, moments)
def test_a_message_is_seen_soon_and_never_before_it_is_there(since, arrived):
    seen = NAPS.seen(since, arrived)
    assert seen >= max(since, arrived)
    assert seen - max(since, arrived) <= NAPS.longest + 1e-9
    assert seen - arrived <= max(NAPS.first, 0.25 * (arrived - since) + NAPS.first) or arrived <= since
    assert Naps().seen(since, arrived) == max(since, arrived)


def test_a_message_that_is_there_is_seen_at_once():
    assert NAPS.seen(2.0, 1.0) == 2.0


def test_the_largest_number_of_ranks_is_where_the_coordinator_saturates():
    most = queueing.most_ranks(0.01, [0.5, 0.9], Costs(service=0.001), each=50)
    assert most == [20, 10]
    assert queueing.most_ranks(0.01, [0.9], Costs(late=0.01), each=2) == [0]


def test_uneven_points_differ_by_the_factor_and_are_the_same_each_time():
    case = sleepers.Case("uneven", 0.02, 0.2, each=50)
    points = case.points(4)
    assert len(points) == 200
    assert 0.02 <= min(points) < 0.025 < 0.16 < max(points) <= 0.2
    assert points == case.points(4)


@pytest.mark.mpi
def test_three_sleeping_ranks_compute_every_point_once_without_torch():
    cases = [
        sleepers.Case("claims", 0.01, 0.01, total=60, asking=True, written=False),
        sleepers.Case("even", 0.01, 0.01, each=10),
        sleepers.Case("waiting", 0.2, 0.2, total=1),
    ]
    asked = json.dumps([asdict(case) for case in cases])
    run = launch(asked, ranks=3, program=(sys.executable, str(BENCHMARKS / "sleepers.py")))
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert not found["torch"]
    stays = {
        case.name: [sleepers.Stay(**one) for one in seen] for case, seen in zip(cases, found["stays"], strict=True)
    }
    world = scaling.Launch(3, 0.0, stays)
    assert [sum(stay.points for stay in stays[case.name]) for case in cases] == [60, 30, 1]
    assert world.claims(cases[0]) > 0
    assert sum(stay.slept for stay in stays["even"]) == pytest.approx(30 * 0.01)
    assert 0 < world.efficiency(cases[1]) <= 1
    assert world.wall(cases[2]) >= 0.2
