"""Lines: loss in blue, accuracy in red, train solid, test dashed."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from landscape_mpi.errors import UserError
from landscape_mpi.plot import style
from landscape_mpi.plot.figure import Texts, compose, panels, settle, write
from landscape_mpi.plot.options import Options
from plot.made_surfaces import JOB

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]


def curves(figure):
    """Return the curves by label."""
    return {line.get_label(): line for axes in figure.axes for line in axes.lines}


def test_colours_dashes_and_values_are_those_of_figure_2(line):
    shown = curves(compose([line], Options()))
    assert list(shown) == ["training loss", "test loss", "training accuracy", "test accuracy"]
    for label, metric in zip(shown, ("train_loss", "test_loss", "train_acc", "test_acc"), strict=True):
        np.testing.assert_array_equal(shown[label].get_xdata(), line.alpha)
        np.testing.assert_array_equal(shown[label].get_ydata(), line.metrics[metric])
        red, _, blue = to_rgb(shown[label].get_color())
        assert (blue > red) == metric.endswith("loss")
        assert shown[label].get_linestyle() == ("-" if metric.startswith("train") else "--")


def test_two_axes_with_their_units(line):
    left, right = compose([line], Options()).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("loss (nats)", "accuracy (%)")
    assert left.get_xlabel().endswith("(0: θ*, 1: large_batch)")


def test_the_ends_of_an_interpolation_are_named_in_the_caption(line, make):
    figure = compose([line], Options())
    assert any("interpolation from resnet56 to large_batch" in text.get_text() for text in figure.texts)
    job = JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: nets/b.pt}")
    moved = make({"train_loss": np.ones(9)}, beta=None, job=job + "evaluate: {batchnorm: move}\n")
    assert any("running statistics moved along" in text.get_text() for text in compose([moved], Options()).texts)


def test_a_caption_of_wide_letters_stays_within_the_figure(make, layout):
    ends = JOB.replace("resnet56.t7", "W0_M0_W0_M0_W0_M0_W0_M0_W0_M0.t7").replace(
        "kind: random, seed: 3", "kind: interpolate, to: WM_WM_WM_WM_WM_WM.pt"
    )
    figure = compose([make({"train_loss": np.ones(9)}, beta=None, job=ends)], Options())
    caption = figure.texts[-1].get_window_extent()
    assert caption.x0 >= 0
    assert caption.x1 <= figure.bbox.width


def test_captions_take_the_place_of_the_titles_of_panels(line, make):
    other = make({"train_loss": np.linspace(5, 9, 9)}, beta=None)
    figure = compose([line, other], Options(captions=("batch 128, 7.4 %", "$2^{13}$"), title="both"))
    assert [axes.get_title() for axes in figure.axes[:2]] == ["batch 128, 7.4 %", "$2^{13}$"]
    assert figure.get_suptitle() == "both"
    alone = compose([line], Options(captions=("batch 128",), title="above"))
    assert (alone.axes[0].get_title(), alone.get_suptitle()) == ("batch 128", "above")
    alone = compose([line], Options(title="mine"))
    assert (alone.axes[0].get_title(), alone.get_suptitle()) == ("mine", "")


def test_one_metric_alone(line):
    figure = compose([line], Options(metric="test_acc"))
    assert list(curves(figure)) == ["test accuracy"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["test accuracy (%)"]


def test_the_loss_axis_can_be_logarithmic_or_linear(line):
    assert compose([line], Options(log=True)).axes[0].get_yscale() == "log"
    assert compose([line], Options(log=False)).axes[0].get_yscale() == "linear"


def test_panels_share_their_axes(line, make):
    other = make({"train_loss": np.linspace(5, 9, 9), "train_acc": np.linspace(20, 30, 9)}, beta=None)
    first, second, *twins = compose([line, other], Options()).axes
    assert first.get_ylim() == second.get_ylim()
    assert twins[0].get_ylim() == twins[1].get_ylim()
    assert first.get_ylim()[1] >= 9


def test_an_unfinished_line_joins_what_is_done_but_not_across_a_nan(make):
    status = np.array([1, 0, 1, 1, 2, 1, 1, 1, 1], np.uint8)
    values = np.arange(9.0) + 1
    values[6] = np.inf
    figure = compose([make({"train_loss": values}, beta=None, status=status)], Options())
    (curve,) = curves(figure).values()
    np.testing.assert_array_equal(curve.get_ydata(), [1, 3, 4, 6, np.nan, 8, 9])
    assert curve.get_marker() == "o"


def test_kinds_of_planes_do_not_draw_lines_and_the_other_way_round(line, rectangle):
    with pytest.raises(UserError, match=r"found a line of 41 points, which --kind contour cannot draw"):
        compose([line], Options(kind="contour"))
    with pytest.raises(UserError, match=r"found a plane of 9 x 7 points, which --kind line cannot draw"):
        compose([rectangle], Options(kind="line"))
    with pytest.raises(UserError, match=r"made\.h5: found a plane"):
        compose([line, rectangle], Options())


def test_a_line_of_one_point(make, layout):
    compose([make({"train_loss": np.ones(1)}, alpha=np.zeros(1), beta=None)], Options())


def test_a_mean_squared_error_has_no_unit(make):
    figure = compose([make({"train_loss": np.ones(9)}, beta=None, job=JOB + "loss: mse\n")], Options())
    assert figure.axes[0].get_ylabel() == "training loss"


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (4, 1, 4), (5, 2, 3), (6, 2, 3), (8, 2, 4), (9, 3, 3)]
)
def test_panels_stand_in_rows_of_at_most_four_and_of_one_length(count, rows, columns):
    figure, axes = panels(count, style.LINE_PANEL, 0, None)
    assert len(axes) == count
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == (rows, columns)
    assert tuple(figure.get_size_inches()) == (columns * style.LINE_PANEL[0], rows * style.LINE_PANEL[1])


def test_small_print_as_wide_as_a_column_does_not_squeeze_the_panels(layout):
    figure, axes = panels(2, style.LINE_PANEL, 0, None)
    facts = ["interpolation from vgg9_small_wd0/epoch-0060 to vgg9_large_wd0/epoch-0060"] * 2
    write(figure, axes, Texts(["left", "right"], [facts[:1], facts[1:]], [], None))
    settle(figure, [])
    assert all(panel.get_position().width > 0.35 for panel in axes)


def floors(figure):
    """Return the grey bands as (low, high)."""
    patches = [patch for axes in figure.axes for patch in axes.patches if patch.get_gid() == "floor"]
    return [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in patches]


def captions(figure):
    """Return all small print."""
    return " ".join(text.get_text() for text in (*figure.texts, *(t for axes in figure.axes for t in axes.texts)))


VALLEY = {"train_loss": 0.5 + np.linspace(-1, 1, 9) ** 2, "train_acc": np.full(9, 50.0)}


def valley(make, floor, dtype="bfloat16", metrics=VALLEY, seed=3, **others):
    attributes = {"precision_floor": floor, "dtype": dtype, "seed": seed}
    return make(metrics, alpha=np.linspace(-1, 1, 9), beta=None, attributes=attributes, **others)


def test_a_grey_band_shows_where_rounding_decides_about_losses(make):
    figure = compose([valley(make, 0.125)], Options())
    assert floors(figure) == [(0.375, 0.625)]
    assert "rounding in bfloat16 decides where |f - f(0, 0)| < 0.12" in captions(figure)
    assert floors(compose([valley(make, 0.125)], Options(metric="train_acc"))) == []
    logarithmic = compose([valley(make, 0.75)], Options(log=True))
    (low, high), bottom = floors(logarithmic)[0], logarithmic.axes[0].get_ylim()[0]
    assert (low, high) == pytest.approx((bottom, 1.25))


def test_what_float32_cannot_resolve_is_shown_where_it_can_be_seen(make):
    for floor, seen in ((1e-8, False), (2e-3, True)):
        figure = compose([valley(make, floor, "float32")], Options())
        assert (bool(floors(figure)), "rounding in float32" in captions(figure)) == (seen, seen)
    tiny = {"train_loss": 1e-6 + np.linspace(-1, 1, 9) ** 2}
    assert floors(compose([valley(make, 1e-7, "float32", tiny)], Options(log=True)))


def test_a_line_without_its_centre_has_no_band_but_the_words(make):
    off = make(VALLEY, beta=None, attributes={"precision_floor": 0.1, "dtype": "tf32"})
    figure = compose([off], Options())
    assert floors(figure) == []
    assert "rounding in tf32 decides" in captions(figure)


@pytest.mark.parametrize("floor", [-1.0, np.nan, "low"])
def test_a_floor_that_is_none_is_left_out(make, floor):
    figure = compose([valley(make, floor)], Options())
    assert floors(figure) == []
    assert "rounding" not in captions(figure)


def test_repeats_share_the_band_of_the_highest_floor(make):
    lines = [
        valley(make, floor, seed=seed, name=f"r{seed}.h5", job=JOB.replace("seed: 3", f"seed: {seed}"))
        for seed, floor in ((3, 0.0625), (4, 0.125))
    ]
    figure = compose(lines, Options())
    assert len(figure.axes) == 2
    assert floors(figure)[0] == (0.375, 0.625)
    assert "|f - f(0, 0)| < 0.12" in captions(figure)


def test_the_caption_of_a_plane_says_it_too(make):
    plane = make({"train_loss": np.ones((7, 9))}, attributes={"precision_floor": 0.5, "dtype": "bfloat16"})
    assert "rounding in bfloat16 decides where |f - f(0, 0)| < 0.5" in captions(compose([plane], Options(kind="heat")))
