"""Points that are not done yet, and what is shown in their place."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from landscape_mpi.errors import UserError
from landscape_mpi.plot.field import Field, field_of
from landscape_mpi.plot.interpolate import linear, nearest
from landscape_mpi.surface.read import Surface

SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)


def tilted(shape) -> np.ndarray:
    """Return a plane in space: linear interpolation is exact on it."""
    return 3.0 * np.arange(shape[0])[:, None] + 7.0 * np.arange(shape[1])[None, :]


def field(values, status) -> Field:
    coordinates = [np.arange(n, dtype=float) for n in values.shape]
    metrics = {"train_loss": np.where(status == 1, values, np.nan)}
    return field_of(Surface(Path("s.h5"), tuple(reversed(coordinates)), metrics, status, {}, None))


@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))))
def test_linear_interpolation_is_exact_on_a_tilted_plane_and_never_goes_beyond_the_done_points(status):
    assume(status.any())
    try:
        filled = linear(field(tilted(status.shape), status))
    except UserError:
        return
    finite = np.isfinite(filled)
    np.testing.assert_allclose(filled[finite], tilted(status.shape)[finite], atol=1e-9)
    rows, columns = np.nonzero(status)
    outside = np.ones(status.shape, bool)
    outside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = False
    assert not finite[outside].any()
    assert finite[status == 1].all()


def test_a_coarse_lattice_fills_the_area_it_spans():
    status = np.zeros((9, 13), np.uint8)
    status[::4, ::4] = 1
    for filled in (linear(field(tilted((9, 13)), status)), nearest(field(tilted((9, 13)), status))):
        assert np.isfinite(filled).all()


def test_nearest_takes_values_of_done_points_only():
    status = np.zeros((9, 13), np.uint8)
    status[::4, ::4] = 1
    values = tilted((9, 13))
    shown = nearest(field(values, status))
    assert set(shown.ravel()) == set(values[status == 1])
    assert shown[1, 1] == values[0, 0]
    assert shown[3, 5] == values[4, 4]


def test_rows_done_one_after_the_other_leave_the_rest_empty():
    status = np.zeros((6, 8), np.uint8)
    status[:3] = 1
    assert np.isnan(linear(field(tilted((6, 8)), status))[3:]).all()
    assert np.isnan(nearest(field(tilted((6, 8)), status))[3:]).all()


def test_nothing_is_interpolated_across_a_nan():
    status = np.zeros((5, 5), np.uint8)
    status[::2, ::2] = 1
    values = tilted((5, 5))
    values[2, 2] = np.nan
    assert np.isnan(linear(field(values, status))[1:4, 1:4]).any()
    assert np.isnan(linear(field(values, status))[2, 2])
    assert np.isnan(nearest(field(values, status))[2, 2])


def test_done_points_in_a_row_span_no_area():
    status = np.zeros((5, 5), np.uint8)
    status[2] = 1
    with pytest.raises(UserError, match=r"the 5 of 25 points that are done span no area yet; --kind heat"):
        linear(field(tilted((5, 5)), status))
    np.testing.assert_array_equal(np.isfinite(nearest(field(tilted((5, 5)), status))), status == 1)


def test_a_complete_surface_is_left_alone():
    values = tilted((4, 4))
    values[1, 1] = np.nan
    for shown in (linear(field(values, np.ones((4, 4), np.uint8))), nearest(field(values, np.ones((4, 4), np.uint8)))):
        np.testing.assert_array_equal(shown, values)
