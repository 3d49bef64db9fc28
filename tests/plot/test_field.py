"""Metrics in words and units, the ratio of the Hessian's extreme eigenvalues, and what points not done yet show."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.contour import ContourSet
from matplotlib.text import Text

from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.field import Field, field_of, linear, nearest, quantity, ratio
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.scale import as_usual
from landscape_mpi.surface.read import Surface, read_surface
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import JOB, bowl, write_foreign

pytestmark = pytest.mark.filterwarnings("error")
SMALLEST = -bowl(ALPHA, BETA) / 50 + 0.005
LARGEST = np.ones((7, 9))
SHAPES = array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)


@pytest.fixture
def curved(make):
    return make({"train_loss": bowl(ALPHA, BETA), "min_eig": SMALLEST, "max_eig": LARGEST})


def test_the_ratio_is_that_of_magnitudes(make):
    smallest, largest = np.array([[-1.0, -4, 0], [1, np.nan, -1]]), np.array([[4.0, -2, 2], [2, np.nan, 0]])
    surface = make({"min_eig": smallest, "max_eig": largest}, alpha=np.arange(3.0), beta=np.arange(2.0))
    np.testing.assert_array_equal(ratio(surface), [[0.25, 2, 0], [0.5, np.nan, np.inf]])


@pytest.mark.usefixtures("draft")
def test_it_is_a_filled_map_from_0_to_a_half_unless_asked_otherwise(curved):
    options = as_usual(Options(metric="eig_ratio"), [curved])
    assert options == Options(kind="filled", metric="eig_ratio", log=False, low=0.0, high=0.5)
    for asked in (
        Options(metric="eig_ratio", kind="heat", log=True),
        Options(metric="eig_ratio", kind="heat", high=0.2),
    ):
        assert as_usual(asked, [curved]) == asked
    assert as_usual(Options(metric="max_eig"), [curved]) == Options(metric="max_eig")
    figure = compose([curved], options)
    lines = [artist for artist in figure.axes[0].get_children() if isinstance(artist, ContourSet)]
    assert (lines[0].norm.vmin, lines[0].norm.vmax) == (0, 0.5)


@pytest.mark.usefixtures("draft")
def test_values_beyond_a_half_alone_get_a_scale_of_their_own(make):
    surface = make({"min_eig": -0.8 - bowl(ALPHA, BETA), "max_eig": LARGEST})
    options = as_usual(Options(metric="eig_ratio"), [surface])
    assert options == Options(kind="filled", metric="eig_ratio")
    compose([surface], options)


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("", "Hessian of 500 examples, tolerance 0.001"),
        ("hessian: {images: 200, tolerance: 0.01}\n", "Hessian of 200 examples, tolerance 0.01"),
        ("hessian: {images: null}\n", "Hessian of 500 examples, tolerance 0.001"),
    ],
)
def test_the_caption_says_of_which_examples_and_how_exact(make, section, said):
    surface = make({"min_eig": SMALLEST, "max_eig": LARGEST}, job=JOB + "metrics: [loss, hessian]\n" + section)
    texts = [text.get_text() for text in compose([surface], Options(metric="min_eig")).findobj(Text)]
    assert any(said in text for text in texts)


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_files_of_another_tool(tmp_path):
    smallest = SMALLEST.copy()
    smallest[0, 0] = 1.0  # not yet
    path = write_foreign(tmp_path / "g.h5", ALPHA, BETA, {"min_eig": smallest, "max_eig": LARGEST})
    assert np.isnan(ratio(read_surface(path))[0, 0])
    assert main([str(path), "--metric", "eig_ratio"]) == 0
    assert (tmp_path / "g_eig_ratio_filled.png").exists()


def test_a_surface_without_eigenvalues_has_no_ratio(rectangle):
    with pytest.raises(UserError, match=r"has no eig_ratio"):
        compose([rectangle], as_usual(Options(metric="eig_ratio"), [rectangle]))


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("train_loss", "training loss (nats)"),
        ("test_acc", "test accuracy (%)"),
        ("train_loss_stderr", "standard error of the training loss (nats)"),
        ("test_acc_bar", "95 % error bar of the test accuracy (%)"),
        ("train_examples", "training examples used"),
        ("test_loss_relbar", "relative 95 % error bar of the test loss (%)"),
        ("min_eig", "smallest Hessian eigenvalue"),
        ("hessian_iterations", "products for the Hessian eigenvalues"),
        ("hold_out_loss", "hold_out loss (nats)"),
        ("something_new", "something new"),
    ],
)
def test_labels_of_metrics(metric, label):
    assert quantity(metric, nats=True).label == label


def test_a_loss_other_than_the_cross_entropy_has_no_unit():
    assert quantity("test_loss", nats=False).label == "test loss"
    assert quantity("test_acc", nats=False).label == "test accuracy (%)"


def tilted(shape) -> np.ndarray:
    """Return a plane in space: linear interpolation is exact on it."""
    return 3.0 * np.arange(shape[0])[:, None] + 7.0 * np.arange(shape[1])[None, :]


def field(values, status) -> Field:
    coordinates = [np.arange(n, dtype=float) for n in values.shape]
    metrics = {"train_loss": np.where(status == 1, values, np.nan)}
    return field_of(Surface(Path("s.h5"), tuple(reversed(coordinates)), metrics, status, {}, None))


@pytest.mark.slow
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
