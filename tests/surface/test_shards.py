"""Points are visited once each, coarse to fine, and shards share them: what `--shard` means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.surface.shards import Shard, axis_levels, coarse_to_fine, parse_shard, recorded_shard


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 40))
def test_every_point_comes_exactly_once(ny, nx):
    assert sorted(coarse_to_fine((ny, nx))) == [(y, x) for y in range(ny) for x in range(nx)]


@given(st.integers(1, 200))
def test_a_line_is_visited_from_its_ends_and_middle(points):
    first = coarse_to_fine((points,))[:3]
    assert {(0,), (points - 1,)} <= set(first) or points <= 2


def test_five_percent_of_the_work_spread_over_all_of_the_plane():
    order = coarse_to_fine((51, 51))
    seen = order[: len(order) // 20]
    for quadrant in ((0, 0), (0, 1), (1, 0), (1, 1)):
        inside = [(y, x) for y, x in seen if (y > 25, x > 25) == (bool(quadrant[0]), bool(quadrant[1]))]
        assert len(inside) >= 16
    assert {(0, 0), (0, 50), (50, 0), (50, 50), (25, 25)} <= set(seen)


def test_levels_halve_the_axis():
    assert axis_levels(9).tolist() == [0, 2, 1, 2, 0, 2, 1, 2, 0]


@given(st.integers(0, 300), st.integers(1, 40))
def test_shares_hold_each_point_once_and_differ_by_one_at_most(points, count):
    shares = [Shard(index, count).of(range(points)) for index in range(count)]
    assert sorted(point for share in shares for point in share) == list(range(points))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("3/8", {}, Shard(3, 8)),
        ("0/1", {"SLURM_ARRAY_TASK_ID": "5"}, Shard(0, 1)),
        ("auto/8", {"SLURM_ARRAY_TASK_ID": "7"}, Shard(7, 8)),
        ("auto/8", {"PBS_ARRAY_INDEX": "0"}, Shard(0, 8)),
        ("auto/8", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "2"}, Shard(3, 8)),
    ],
)
def test_the_number_is_the_jobs_or_the_tasks(text, environment, shard):
    assert parse_shard(text, environment) == shard


@pytest.mark.parametrize(
    "text", ["8/8", "-1/8", "3", "3/0", "a/b", "auto/", "auto/x", "3/8/9", "1e0/8", "1/" + "9" * 5000]
)
def test_what_is_no_share_is_refused(text):
    with pytest.raises(UserError, match=r"--shard: found .*; expected I/N with I from 0 to N - 1"):
        parse_shard(text, {"SLURM_ARRAY_TASK_ID": "1"})


def test_auto_outside_an_array_is_refused():
    with pytest.raises(UserError, match=r"none of SLURM_ARRAY_TASK_ID, .* is set to a number"):
        parse_shard("auto/8", {"SLURM_ARRAY_TASK_ID": ""})


def test_a_task_beyond_the_shares_says_what_it_is_here():
    with pytest.raises(UserError, match=r"found auto/8, which is 9/8 here"):
        parse_shard("auto/8", {"SLURM_ARRAY_TASK_ID": "9"})


@pytest.mark.parametrize("value", [None, 3, "x", b"3/8", "3/3", "0/0", "1/" + "9" * 5000])
def test_what_records_no_share_is_none(value):
    assert recorded_shard(value) is None
    assert recorded_shard("3/8") == Shard(3, 8)
