"""One scale for all panels: ends, logarithm, levels."""

import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.scale import scale_of
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
