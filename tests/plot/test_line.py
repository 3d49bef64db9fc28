"""Lines: loss in blue, accuracy in red, train solid, test dashed; a band along several random directions."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb

from landscape_mpi.errors import UserError
from landscape_mpi.plot import labels, style
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.figure import Texts, compose, panels, settle, write
from landscape_mpi.plot.line import grouped
from landscape_mpi.plot.options import Options
from plot.conftest import ALPHA
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


@pytest.mark.slow
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


@pytest.mark.slow
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


FINGERPRINTS = {"checkpoint_sha256": "net", "data_sha256": "data"}
STEEPNESS = (1.0, 5.0, 2.0)


@pytest.fixture
def bowls(make):
    """Three repeats, each a parabola of a steepness of its own."""
    return [repeat(make, seed, {"train_loss": steep * ALPHA**2 + 1}) for seed, steep in enumerate(STEEPNESS)]


def repeat(make, seed, metrics, name=None, **others):
    attributes = {**FINGERPRINTS, "seed": seed, **others.pop("attributes", {})}
    return make(metrics, beta=None, name=name or f"net.r{seed}.h5", attributes=attributes, **others)


def thin(axes):
    return [line for line in axes.lines if line.get_gid() == "repeat"]


def texts(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_they_are_one_panel_with_median_range_and_each_line(bowls):
    figure = compose(bowls, Options())
    (axes,) = figure.axes
    (curve,) = [line for line in axes.lines if line.get_gid() != "repeat"]
    np.testing.assert_allclose(curve.get_ydata(), 2 * ALPHA**2 + 1)
    for line, steep in zip(thin(axes), STEEPNESS, strict=True):
        np.testing.assert_allclose(line.get_ydata(), steep * ALPHA**2 + 1)
    (band,) = [item for item in axes.collections if isinstance(item, PolyCollection)]
    corners = band.get_paths()[0].vertices
    for alpha in ALPHA:
        at = corners[np.isclose(corners[:, 0], alpha), 1]
        assert (at.min(), at.max()) == pytest.approx((alpha**2 + 1, 5 * alpha**2 + 1))


def test_the_caption_says_what_the_band_is_and_the_title_names_no_repeat(bowls):
    said = texts(compose([bowls[2], *bowls[:2]], Options()))
    assert "median and range of 3 random directions, filter-normalised, seeds 0 to 2" in said
    assert ".r0" not in said


def test_seeds_with_gaps_are_listed(bowls, make):
    fifth = repeat(make, 5, {"train_loss": ALPHA**2 + 1})
    assert labels.line_facts([[field_of(one) for one in (bowls[0], fifth)]])[0].endswith("seeds 0, 5")


@pytest.mark.parametrize(
    "others",
    [
        {"attributes": {"checkpoint_sha256": "another"}},
        {"attributes": {"data_sha256": "others"}},
        {"attributes": {"seed": 0}},
        {"job": JOB.replace("limit: 500", "limit: 400")},
        {"job": JOB.replace("{kind: random, seed: 3}", "{kind: random, seed: 3, normalize: layer}")},
        {"job": JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: b.pt}")},
        {"job": None},
        {"alpha": ALPHA + 0.125},
    ],
)
def test_what_differs_in_more_than_the_seed_is_a_panel_of_its_own(bowls, make, others):
    other = repeat(make, 7, {"train_loss": ALPHA**2 + 1}, "other.h5", **others)
    assert [len(group) for group in grouped([bowls[0], other, bowls[1]])] == [2, 1]


def test_jobs_that_differ_in_seed_places_and_training_are_repeats(bowls, make):
    job = JOB.replace("seed: 3", "seed: 9, repeats: 4").replace("nets/", "elsewhere/").replace("made.h5", "b.h5")
    other = repeat(make, 9, {"train_loss": ALPHA**2 + 1}, job=job + "train: {output: nets}\n")
    assert [len(group) for group in grouped([*bowls, other])] == [4]


@pytest.mark.slow
def test_two_networks_are_two_bands_on_one_scale(bowls, make, layout):
    others = [
        repeat(make, seed, {"train_loss": 9 * ALPHA**2 + seed}, f"b.r{seed}.h5", attributes={"checkpoint_sha256": "b"})
        for seed in (1, 2)
    ]
    first, second = compose([*bowls, *others], Options()).axes
    assert (len(thin(first)), len(thin(second))) == (3, 2)
    assert first.get_ylim() == second.get_ylim()


def test_a_repeat_that_is_unfinished_or_infinite_takes_part_with_what_it_has(bowls, make):
    values = ALPHA**2 * 50 + 1
    values[3] = np.inf
    status = np.ones(ALPHA.size, np.uint8)
    status[4] = 0
    figure = compose([*bowls, repeat(make, 3, {"train_loss": values}, status=status)], Options(log=False))
    (curve,) = [line for line in figure.axes[0].lines if line.get_gid() != "repeat"]
    middle = np.full(ALPHA.size, 3.5)  # between 2 and 5, of the four; of the other three alone it is 2
    middle[3:5] = 2.0
    np.testing.assert_allclose(curve.get_ydata(), middle * ALPHA**2 + 1)
    said = texts(figure)
    assert "35 of 36 points" in said
    assert "training loss inf at 1 point" in said


def test_train_and_test_of_loss_and_accuracy_are_four_bands(make):
    loss = [steep * ALPHA**2 + 1 for steep in STEEPNESS]
    every = [
        {"train_loss": one, "test_loss": one + 1, "train_acc": 90 / one, "test_acc": 80 / one, "test_acc_stderr": one}
        for one in loss
    ]
    figure = compose([repeat(make, seed, metrics) for seed, metrics in enumerate(every)], Options())
    shown = [line.get_label() for axes in figure.axes for line in axes.lines if line.get_gid() != "repeat"]
    assert shown == ["training loss", "test loss", "training accuracy", "test accuracy"]
    assert [len(thin(axes)) for axes in figure.axes] == [6, 6]


WORST = JOB.replace("{kind: random, seed: 3}", "{kind: worst}").replace("[-1, 1, 9]", "auto")


def steepest(make, job=WORST, **attributes):
    short = ALPHA / 4
    losses, recorded = {"train_loss": 80 * short**2 + 1}, {**FINGERPRINTS, "seed": -1, **attributes}
    return make(losses, alpha=short, beta=None, name="worst.h5", job=job, attributes=recorded)


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_a_steepest_ascent_is_drawn_over_the_band_of_its_network(bowls, make, first):
    worst = steepest(make)
    figure = compose([worst, *bowls] if first else [*bowls, worst], Options())
    (axes,) = figure.axes
    median, over = [line for line in axes.lines if line.get_gid() != "repeat"]
    np.testing.assert_allclose(median.get_ydata(), 2 * ALPHA**2 + 1)
    np.testing.assert_allclose(over.get_xdata(), ALPHA / 4)
    np.testing.assert_allclose(over.get_ydata(), 80 * (ALPHA / 4) ** 2 + 1)
    assert over.get_color() != median.get_color()
    assert axes.get_xlim() == (ALPHA.min(), ALPHA.max())
    entries = [text.get_text() for text in axes.get_legend().get_texts()]
    assert entries == ["median of 3", "range", "worst case"]
    said = texts(figure)
    assert "median and range of 3 random directions" in said
    assert "steepest ascent of the loss, filter-normalised" in said


@pytest.mark.parametrize(
    "others", [{"checkpoint_sha256": "b"}, {"data_sha256": "b"}, {"job": WORST.replace("limit: 500", "limit: 9")}]
)
def test_a_steepest_ascent_of_another_network_or_data_is_a_panel_of_its_own(bowls, make, others):
    assert len(compose([*bowls, steepest(make, **others)], Options()).axes) == 2


def test_a_steepest_ascent_alone_is_a_line(make):
    (axes,) = compose([steepest(make)], Options()).axes
    assert axes.get_xlabel() == "\N{GREEK SMALL LETTER ALPHA} (steepest ascent)"
