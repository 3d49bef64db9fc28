"""Points are visited once each, coarse to fine."""

from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.surface.order import axis_levels, coarse_to_fine


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
