"""Sharpness in numbers: closed forms, invariances, and what cannot be known."""

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landscape_mpi.surface.sharpness import asymmetry, radius, sharpness
from landscape_mpi.surface.status import describe
from plot.made_surfaces import coarse, write

pytestmark = pytest.mark.filterwarnings("error")

ALPHA, BETA = np.linspace(-1, 1, 41), np.linspace(-1.2, 1.2, 49)


def numbers(values, alpha=ALPHA, beta=BETA, done=True):
    return sharpness(values, alpha, beta, np.broadcast_to(np.asarray(done), values.shape))


def over(function, alpha=ALPHA, beta=BETA):
    return function(alpha[None, :], beta[:, None])


@pytest.mark.slow
def test_a_bowl_has_the_numbers_of_its_formula():
    found = numbers(over(lambda x, y: 0.25 + 2 * x**2 + 5 * y**2))
    assert found.centre == 0.25
    assert found.curvature_alpha == pytest.approx(4)
    assert found.curvature_beta == pytest.approx(10)
    assert found.step == pytest.approx(0.05)
    # f = 1/2 and f = 5/4 along beta, the steeper axis; a chord of 0.05 lies inside the parabola
    assert found.radius_doubled == pytest.approx(math.sqrt(0.25 / 5), abs=0.003)
    assert found.radius_above == pytest.approx(math.sqrt(1 / 5), abs=0.001)
    # the ellipse 2 x^2 + 5 y^2 < 1 in a rectangle of 2 x 2.4
    assert found.area_above == pytest.approx(math.pi / math.sqrt(10) / 4.8, rel=0.005)
    assert found.asymmetry == pytest.approx(0, abs=1e-12)
    assert found.roughness == 0


def test_a_parabola_on_a_line():
    found = numbers(0.5 + 3 * ALPHA**2, beta=None)
    assert found.curvature_alpha == pytest.approx(6)
    assert math.isnan(found.curvature_beta)
    assert found.radius_doubled == pytest.approx(math.sqrt(0.5 / 3), abs=0.002)
    assert found.area_above == pytest.approx(math.sqrt(1 / 3), abs=0.002)
    assert (found.asymmetry, found.roughness) == (pytest.approx(0, abs=1e-12), 0)


def test_a_plane_of_one_row_is_a_line():
    values = 0.5 + 3 * ALPHA**2 + 0.1 * np.sin(20 * ALPHA)
    line, row = numbers(values, beta=None), numbers(values[None], beta=np.zeros(1))
    np.testing.assert_equal(astuple(line), astuple(row))


def test_a_saddle_bends_down_everywhere():
    found = numbers(over(lambda x, y: 1 + x**2 - y**2))
    assert found.curvature_alpha == pytest.approx(2)
    assert found.curvature_beta == pytest.approx(-2)
    assert found.roughness == 1


def test_a_twisted_saddle_is_seen_though_both_axes_bend_up():
    found = numbers(over(lambda x, y: 10 + x**2 + y**2 + 4 * x * y))
    assert min(found.curvature_alpha, found.curvature_beta) > 0
    assert found.roughness == 1


def test_a_flat_slope_has_no_negative_curvature_however_it_is_rounded():
    values = over(lambda x, y: 7 + x + 2 * y)
    assert numbers(values).roughness == 0
    assert numbers(values.astype(np.float32).astype(float)).roughness == 0


def test_a_cosine_is_convex_where_its_second_derivative_is_positive():
    alpha = np.linspace(-2, 2, 401)
    found = numbers(2 - np.cos(3 * alpha), alpha, None)
    assert found.curvature_alpha == pytest.approx(9, rel=1e-3)
    convex = np.cos(3 * alpha[1:-1]) > 0
    assert found.roughness == pytest.approx(1 - convex.mean(), abs=0.006)
    # 2 - cos(3 a) reaches twice its value at 0 where the cosine is 0
    assert found.radius_doubled == pytest.approx(math.pi / 6, abs=1e-3)


def test_asymmetry_is_the_relative_difference_of_opposite_points():
    # |x| / 3 of each point but the centre
    tilted = over(lambda x, y: 3 + x + 0 * y)
    assert numbers(tilted).asymmetry == pytest.approx(49 * np.abs(ALPHA).sum() / 3 / (49 * 41 - 1))
    steps = np.where(ALPHA > 0, 3.0, 1.0)
    assert numbers(steps, beta=None).asymmetry == pytest.approx(0.5)
    assert numbers(np.where(ALPHA > 0, 1.0, 0.0), beta=None).asymmetry == 1
    assert numbers(np.zeros(41), beta=None).asymmetry == 0


def test_area_is_exact_for_what_is_linear_and_does_not_prefer_a_diagonal():
    alpha, beta = np.linspace(-1, 1, 3), np.linspace(-1, 1, 3)
    assert numbers(over(lambda x, y: 5 + 4 * x + 0 * y, alpha, beta), alpha, beta).area_above == pytest.approx(0.625)
    # f < 6 below the diagonal line x + y = 0.5 of the square
    diagonal = over(lambda x, y: 5 + 2 * (x + y), alpha, beta)
    for each in (diagonal, diagonal[::-1], diagonal[:, ::-1], diagonal.T):
        assert numbers(each, alpha, beta).area_above == pytest.approx(1 - 1.5**2 / 2 / 4)


def test_levels_that_are_not_reached():
    found = numbers(np.full((49, 41), 3.0))
    assert (found.radius_doubled, found.radius_above, found.area_above) == (math.inf, math.inf, 1)
    assert (found.curvature_alpha, found.asymmetry, found.roughness) == (0, 0, 0)


def test_a_loss_of_zero_cannot_double():
    found = numbers(over(lambda x, y: x**2 + y**2))
    assert math.isnan(found.radius_doubled)
    assert found.radius_above == pytest.approx(1, abs=0.01)


def test_the_nearest_crossing_may_lie_on_a_diagonal():
    values = np.full((5, 5), 1.0)
    values[3, 3] = 9.0
    axis = np.arange(-2.0, 3.0)
    # of the edges to (1, 1) that are crossed at f = 2, an eighth of the way from (1, 0) or (0, 1)
    assert radius(values, axis, axis, 2.0) == pytest.approx(math.hypot(1, 0.125))


AXES = st.sampled_from(
    [np.linspace(-1, 1, 5), np.linspace(-0.5, 1, 7), np.array([-1.0, -0.3, 0.0, 0.4, 1.5]), np.array([0.0, 1.0])]
)
LOSSES = st.floats(0, 1e6, width=32, allow_subnormal=False) | st.sampled_from([math.nan, math.inf])


@pytest.mark.slow
@given(st.data(), AXES, AXES)
def test_no_axis_is_preferred(data, alpha, beta):
    values = data.draw(arrays(float, (beta.size, alpha.size), elements=LOSSES))
    found, swapped = numbers(values, alpha, beta), numbers(values.T, beta, alpha)
    back = replace(swapped, curvature_alpha=swapped.curvature_beta, curvature_beta=swapped.curvature_alpha)
    np.testing.assert_allclose(astuple(found), astuple(back), rtol=1e-9)


@pytest.mark.slow
@given(st.data(), AXES, AXES)
def test_the_direction_of_an_axis_does_not_matter(data, alpha, beta):
    values = data.draw(arrays(float, (beta.size, alpha.size), elements=LOSSES))
    for other in (
        numbers(values[:, ::-1], alpha[::-1], beta),
        numbers(values[::-1], alpha, beta[::-1]),
        numbers(values[:, ::-1], -alpha[::-1], beta),
    ):
        np.testing.assert_allclose(astuple(numbers(values, alpha, beta)), astuple(other), rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@given(st.data(), AXES, AXES)
def test_shares_are_shares_and_a_finer_unit_changes_lengths_alone(data, alpha, beta):
    values = data.draw(arrays(float, (beta.size, alpha.size), elements=LOSSES))
    found, scaled = numbers(values, alpha, beta), numbers(values, 4 * alpha, 4 * beta)
    shares = [found.area_above, found.asymmetry, found.roughness]
    assert all(math.isnan(share) or -1e-12 <= share <= 1 + 1e-12 for share in shares)
    radii = (found.radius_doubled, found.radius_above)
    np.testing.assert_allclose((scaled.radius_doubled, scaled.radius_above), [4 * length for length in radii])
    np.testing.assert_allclose(scaled.step, 4 * found.step)
    np.testing.assert_allclose((scaled.area_above, scaled.asymmetry, scaled.roughness), shares)
    np.testing.assert_allclose(scaled.curvature_alpha, found.curvature_alpha / 16)


def test_nan_and_inf_lie_above_every_level_and_out_of_the_rest():
    values = over(lambda x, y: 0.25 + 2 * x**2 + 5 * y**2)
    whole = numbers(values)
    for wrong in (math.nan, math.inf):
        holed = values.copy()
        holed[24, 30] = wrong  # at (0.5, 0), where f is 0.75
        found = numbers(holed)
        assert found.curvature_alpha == whole.curvature_alpha
        assert found.radius_doubled == whole.radius_doubled
        assert found.area_above == pytest.approx(whole.area_above - 4 / 40 / 48)
        assert found.asymmetry == pytest.approx(0, abs=1e-12)
        assert found.roughness == 0
    holed[24, 21] = math.nan  # beside the centre
    found = numbers(holed)
    assert math.isnan(found.curvature_alpha)
    assert found.curvature_beta == whole.curvature_beta
    assert found.radius_doubled < whole.radius_doubled


def test_a_centre_that_is_no_number_leaves_what_needs_none():
    values = over(lambda x, y: 1 + x**2 + y**2)
    values[24, 20] = math.nan
    found = numbers(values)
    unknown = (found.centre, found.curvature_alpha, found.radius_doubled, found.radius_above, found.area_above)
    assert all(map(math.isnan, unknown))
    assert (found.asymmetry, found.roughness) == (pytest.approx(0, abs=1e-12), 0)


def test_off_centre_grids_keep_what_needs_no_centre():
    alpha = np.linspace(0.1, 1, 10)
    found = numbers(over(lambda x, y: 1 + x**2 + y**2, alpha), alpha)
    assert np.isnan(astuple(found)).tolist() == [True] * 7 + [False, True]
    assert found.roughness == 0


def test_an_even_number_of_points_has_pairs_but_no_centre():
    alpha = np.linspace(-1, 1, 10)
    found = numbers(np.where(alpha > 0, 3.0, 1.0), alpha, None)
    assert math.isnan(found.centre)
    assert found.asymmetry == 0.5


def test_pairs_are_those_whose_mirror_image_is_on_the_grid():
    alpha = np.array([-1.0, 0.0, 1.0, 2.0, 3.0])
    assert asymmetry(np.array([[1.0, 5, 3, 100, 1000]]), alpha, np.zeros(1)) == 0.5


def test_a_zero_of_rounding_is_zero():
    alpha = np.arange(-0.3, 0.9, 0.1)
    assert alpha[3] != 0
    assert numbers(1 + alpha**2, alpha, None).centre == pytest.approx(1)


def test_at_the_edge_there_is_no_curvature_but_a_radius():
    alpha = np.linspace(0, 1, 11)
    found = numbers(1 + alpha, alpha, None)
    assert math.isnan(found.curvature_alpha)
    assert found.radius_doubled == pytest.approx(1)


def test_before_all_points_are_done_there_are_the_curvatures_alone():
    values = over(lambda x, y: 1 + x**2 + y**2)
    done = np.zeros(values.shape, bool)
    done[23:26, 20] = done[24, 19:22] = True
    found = numbers(values, done=done)
    assert found.curvature_alpha == pytest.approx(2)
    assert np.isnan(astuple(found)).tolist() == [False] * 3 + [True] * 5 + [False]
    done[24, 21] = False
    assert math.isnan(numbers(values, done=done).curvature_alpha)


def test_two_points_are_too_few_for_anything_but_levels():
    pair = np.array([0.0, 1.0])
    found = numbers(np.array([[1.0, 1.0], [3.0, 3.0]]), pair, pair)
    assert (found.radius_doubled, found.area_above) == (0.5, 0.5)
    assert all(map(math.isnan, (found.curvature_alpha, found.asymmetry, found.roughness)))


def rows(text):
    """Return the numbers that `info` prints of sharpness, by their labels."""
    lines = [line.split() for line in text.partition("sharpness of")[2].partition("\n\n")[0].splitlines()[1:]]
    return {" ".join(line[:-2]): line[-2:] for line in lines}


def told(path, alpha, beta, loss, test, **others):
    return describe(write(path / "s.h5", alpha, beta, {"train_loss": loss, "test_loss": test}, **others))


def test_info_tells_them_of_every_loss(tmp_path):
    text = told(tmp_path, ALPHA, BETA, over(lambda x, y: 0.25 + x**2 + 2 * y**2), np.full((49, 41), 3.0))
    found = rows(text)
    assert "sharpness of          test_loss   train_loss" in text
    assert found["f(0, 0)"] == ["3", "0.25"]
    assert found["curvature, beta"] == ["0", "4"]
    assert found["radius, 2 f(0, 0)"][0] == "beyond"
    assert float(found["radius, f + 1"][1]) == pytest.approx(math.sqrt(0.5), abs=0.01)
    assert found["area, f + 1"][0] == "1"
    assert found["roughness"] == ["0", "0"]
    assert "the other numbers" not in text


def test_info_says_what_a_line_an_unfinished_and_an_off_centre_surface_lack(tmp_path):
    line = told(tmp_path, ALPHA, None, ALPHA**2, np.full(41, math.nan))
    assert list(rows(line)) == ["f(0, 0)", "curvature, alpha", "radius, f + 1", "area, f + 1", "asymmetry", "roughness"]
    assert rows(line)["roughness"] == ["-", "0"]
    bowl = over(lambda x, y: 1 + x**2 + y**2)
    early = told(tmp_path, ALPHA, BETA, bowl, bowl, status=coarse((49, 41), 4))
    assert rows(early)["f(0, 0)"] == ["1", "1"]
    assert "curvature" not in early
    assert "the other numbers need every point" in early
    aside = told(tmp_path, ALPHA + 3, BETA, bowl, bowl)
    assert list(rows(aside)) == ["roughness", "the other numbers need a finite f(0, 0) on"]


def test_info_does_not_guess_a_radius_within_the_first_cell(tmp_path):
    text = told(tmp_path, ALPHA, None, 0.001 + ALPHA**2, 0.5 + ALPHA**2)
    (line,) = [line for line in text.splitlines() if line.startswith("  radius, 2 f(0, 0)")]
    assert line.split()[-3:] == ["0.706897", "<", "0.05"]
