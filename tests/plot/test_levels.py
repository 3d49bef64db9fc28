"""Contour levels: those the user names, those the program chooses, and how they are written."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.plot.levels import Numbers, automatic_levels, number, parse_levels


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
