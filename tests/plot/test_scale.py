"""One scale for all panels: ends, logarithm, levels that the user names or the program chooses, numbers as text."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options, parse_levels
from landscape_mpi.plot.scale import Numbers, automatic_levels, number, scale_of
from plot.made_surfaces import bowl


@pytest.fixture
def scale(make):
    """Return the scale of planes with the given values (any number of arrays)."""

    def made(*values, metric="train_loss", **options):
        fields = [field_of(plane(make, array, metric, f"s{i}.h5")) for i, array in enumerate(values)]
        return scale_of(fields, Options(**options))

    return made


def plane(make, values, metric, name):
    array = np.atleast_2d(np.asarray(values, float))
    alpha, beta = np.arange(array.shape[1]) + 0.0, np.arange(array.shape[0]) + 0.0
    return make({metric: array}, alpha=alpha, beta=beta, name=name)


def test_it_spans_all_panels(scale):
    shared = scale([[1, 2, 3]], [[2, 3, 9]])
    assert (shared.low, shared.high, shared.log, shared.extend) == (1, 9, False, "neither")


def test_more_than_a_decade_and_a_half_is_logarithmic(scale):
    assert not scale([[1, 30]]).log
    assert scale([[1, 40]]).log
    assert not scale([[1, 40]], log=False).log
    assert scale([[1, 30]], log=True).log


def test_accuracy_and_signed_values_stay_linear(scale):
    assert not scale([[1, 99]], metric="train_acc").log
    assert not scale([[-1, 99]], metric="min_eig").log


def test_an_end_at_zero_asks_for_a_linear_scale(scale):
    assert not scale([[1, 400]], low=0.0).log
    assert not scale([[1, 400]], levels=(0.0, 1.0, 10.0)).log


def test_nan_and_inf_do_not_count(scale):
    shared = scale([[1, 2, np.inf, np.nan, 4]])
    assert (shared.low, shared.high) == (1, 4)


def test_zeros_are_lifted_to_the_smallest_positive_value(scale):
    shared = scale([[0, 0.01, 5]])
    assert shared.log
    assert shared.low == shared.floor == 0.01
    np.testing.assert_array_equal(shared.lift(np.array([0, 0.01, 5])), [0.01, 0.01, 5])


def test_negative_values_refuse_a_log_scale(scale):
    with pytest.raises(UserError, match=r"--log: min_eig is below 0 at 1 points; .*use --linear"):
        scale([[-1, 2, 3]], metric="min_eig", log=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"low": -1.0, "log": True}, r"--vmin: found -1; a log scale needs values above 0"),
        ({"levels": (0.0, 1.0), "log": True}, r"--levels: found 0; a log scale"),
        ({"low": 3.0, "high": 2.0}, r"--vmin and --vmax: found 3 to 2"),
        ({"low": 30.0, "high": 40.0}, r"--vmin and --vmax: 30 to 40 lies outside the values of train_loss, .* 1 to 9"),
        ({"levels": (20.0, 30.0)}, r"--levels: 20 to 30 lies outside the values"),
    ],
)
def test_options_that_cannot_be_met(scale, options, sentence):
    with pytest.raises(UserError, match=sentence):
        scale([[1, 5, 9]], **options)


def test_values_beyond_the_ends_are_announced(scale):
    assert scale([[1, 5, 9]], low=2.0).extend == "min"
    assert scale([[1, 5, 9]], high=8.0).extend == "max"
    assert scale([[1, 5, 9]], low=2.0, high=8.0).extend == "both"


def test_the_papers_levels_make_a_linear_scale_between_them(scale):
    levels = tuple(0.1 + 0.5 * i for i in range(20))
    shared = scale([[0.01, 5, 500]], levels=levels)
    assert (shared.log, shared.low, shared.high) == (False, levels[0], levels[-1])
    assert shared.levels == levels


def test_a_constant_surface_gets_a_little_room(scale):
    for value in (2.0, 0.0, -3.0):
        shared = scale(np.full((3, 3), value))
        assert shared.low < value < shared.high


def test_heights_are_cut_at_the_ends_and_logarithmic_with_the_scale(scale):
    shared = scale([[0.01, 1, 1000]], high=100.0)
    np.testing.assert_allclose(shared.height(np.array([0.01, 1, 1000])), [-2, 0, 2])
    linear = scale([[0.01, 1, 1000]], high=100.0, log=False)
    np.testing.assert_allclose(linear.height(np.array([0.01, 1, 1000])), [0.01, 1, 100])


def test_bands_close_the_levels(scale):
    shared = scale([[1, 5, 9]], levels=(2.0, 4.0), low=1.0, high=9.0)
    assert shared.bands == (1, 2, 4, 9)


def test_levels_chosen_for_a_bowl_lie_within_it(scale):
    values = bowl(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20))
    shared = scale(values)
    assert values.min() <= shared.levels[0] < shared.levels[-1] <= values.max()


def test_the_papers_levels():
    levels = parse_levels("0.1:10:0.5")
    assert len(levels) == 20
    assert levels[:3] == (0.1, 0.6, 1.1)
    assert levels[-1] == 9.6


def test_both_ends_are_included():
    assert parse_levels("0:1:0.1") == tuple(i / 10 for i in range(11))
    assert parse_levels("-1:1:0.5") == (-1, -0.5, 0, 0.5, 1)
    assert parse_levels("2:2:1") == (2,)


def test_a_list():
    assert parse_levels("0.1,1,10") == (0.1, 1, 10)
    assert parse_levels("2.5") == (2.5,)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:0", "1:2:-1", "2:1:1", "1,1", "3,2", "nan", "0:inf:1", "1:2:3:4"]
)
def test_levels_that_are_none(text):
    with pytest.raises(UserError, match=r"--levels: found .*expected FIRST:LAST:STEP"):
        parse_levels(text)


def test_too_many_levels_are_refused_before_they_are_made():
    with pytest.raises(UserError, match="at most 200"):
        parse_levels("0:1:1e-12")


ENDS = st.tuples(st.floats(1e-9, 1e9), st.floats(1.001, 1e12)).map(lambda pair: (pair[0], pair[0] * pair[1]))


@given(ENDS, st.booleans())
def test_automatic_levels_are_few_ascending_and_within_the_ends(ends, log):
    low, high = ends
    levels = automatic_levels(low, high, log=log)
    assert 1 <= len(levels) <= 14
    assert all(low <= level <= high for level in levels)
    assert all(np.diff(levels) > 0)


def test_levels_over_decades_are_geometric():
    levels = automatic_levels(0.008, 600, log=True)
    assert {0.01, 0.1, 1, 10, 100} <= set(levels)
    ratios = np.array(levels[1:]) / np.array(levels[:-1])
    assert ratios.max() < 4


def test_levels_within_a_decade_are_evenly_spaced():
    steps = np.diff(automatic_levels(1, 6, log=True))
    np.testing.assert_allclose(steps, steps[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (100, "100"), (-3, "\N{MINUS SIGN}3"), (2e6, r"$2{\times}10^{6}$"), (1e-5, "$10^{-5}$")],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@given(st.floats(-1e300, 1e300))
def test_every_number_keeps_three_digits(value):
    text = number(value).strip("$").replace("\N{MINUS SIGN}", "-").replace(r"{\times}10^{", "e").replace("10^{", "1e")
    assert math.isclose(float(text.replace("}", "")), value, rel_tol=1e-3)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((1.099, 1.1, 1.101), ["1.099", "1.100", "1.101"]),
        ((1.099, 1.0995, 1.1), ["1.0990", "1.0995", "1.1000"]),
        ((-0.5, 0, 0.5), ["\N{MINUS SIGN}0.5", "0.0", "0.5"]),
        ((1000, 2000, 3000), ["1000", "2000", "3000"]),
        ((0.1, 10, 1000, 30000), ["0.1", "10", "$10^{3}$", r"$3{\times}10^{4}$"]),
        ((0.0005, 0.001, 0.1), [r"$5{\times}10^{-4}$", "$10^{-3}$", "0.1"]),
        ((0, 2e-14, 4e-14), ["0", r"$2{\times}10^{-14}$", r"$4{\times}10^{-14}$"]),
    ],
)
def test_the_numbers_of_one_scale_are_written_alike(values, texts):
    assert [*map(Numbers.of(values), values)] == texts


@given(st.floats(-1e6, 1e6), st.integers(0, 40))
def test_levels_of_any_range_ascend_and_differ(low, bits):
    high = low + max(abs(low), 1.0) * 2.0**-bits
    for log in (False, True):
        levels = automatic_levels(low, high, log=log and low > 0)
        assert all(one < other for one, other in pairwise(levels))
        assert 1 <= len(levels) <= 15
