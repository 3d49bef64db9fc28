"""What lies on the axes of each picture of a plane."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image

from landscape_mpi.errors import UserError
from landscape_mpi.plot import density, render
from landscape_mpi.plot.figure import LINE, PLANES, compose
from landscape_mpi.plot.options import KINDS, Options
from landscape_mpi.plot.run import save
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import JOB, bowl, chaos

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]

# Flat pictures have the same frame, labels and scale: the quick tests see one of them, and the relief.
FRAMED = [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("filled", "heat"))) for kind in PLANES]


def drawn(figure, kind, panel=0):
    """Return the pictures of a kind on one panel."""
    return [artist for artist in figure.axes[panel].get_children() if isinstance(artist, kind) and not artist.get_gid()]


def words(figure):
    """Return every text of the figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def runs_at(lines: ContourSet, level, tolerance):
    """Assert that the line of a level runs where the bowl has that value."""
    (index,) = np.flatnonzero(np.isclose(lines.levels, level))
    points = lines.get_paths()[index].vertices
    assert len(points) > 4
    values = np.array([bowl(x[None], y[None])[0, 0] for x, y in points[:, None, :].transpose(0, 2, 1)])
    np.testing.assert_allclose(values, level, rtol=tolerance)


def test_there_is_a_picture_of_every_kind_that_may_be_asked_for():
    assert (*PLANES, LINE, density.KIND, render.KIND) == KINDS


@pytest.mark.parametrize("kind", ["contour", "filled"])
def test_contours_run_where_the_function_has_their_level(make, kind):
    alpha, beta = np.linspace(-0.5, 1.1, 45), np.linspace(-1.0, 0.4, 35)
    surface = make({"train_loss": bowl(alpha, beta)}, alpha=alpha, beta=beta)
    figure = compose([surface], Options(kind=kind, levels=(0.5, 1.0, 2.0)))
    for level in (0.5, 1.0, 2.0):
        runs_at(drawn(figure, ContourSet)[-1], level, 0.02)


def test_a_heat_map_puts_each_value_into_its_own_cell(rectangle):
    (mesh,) = drawn(compose([rectangle], Options(kind="heat")), QuadMesh)
    np.testing.assert_array_equal(mesh.get_array(), rectangle.metrics["train_loss"])
    corners = mesh.get_coordinates()
    assert corners.shape == (8, 10, 2)
    middles = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    np.testing.assert_allclose(middles[0, :, 0], rectangle.alpha, atol=1e-12)
    np.testing.assert_allclose(middles[:, 0, 1], rectangle.beta, atol=1e-12)


@pytest.mark.parametrize(("log", "height"), [(True, np.log10), (False, np.asarray)])
def test_a_relief_stands_as_high_as_the_values(rectangle, log, height):
    figure = compose([rectangle], Options(kind="surface", log=log))
    (relief,) = drawn(figure, Poly3DCollection)
    x, y, z = np.concatenate(relief._faces).T
    loss = rectangle.metrics["train_loss"]
    lowest = np.unravel_index(loss.argmin(), loss.shape)
    np.testing.assert_allclose([z.min(), z.max()], height([loss.min(), loss.max()]), atol=1e-6)
    np.testing.assert_allclose(x[z.argmin()], rectangle.alpha[lowest[1]], atol=1e-6)
    np.testing.assert_allclose(y[z.argmin()], rectangle.beta[lowest[0]], atol=1e-6)


@pytest.mark.parametrize("kind", ["spike", "panels", "ends"])
def test_a_relief_that_is_low_nearly_everywhere_can_be_seen(make, kind):
    """Shading alone tells its slopes apart, so the dark end of the colours must not swallow it."""
    axis = np.linspace(-1, 1, 25)
    x, y = np.meshgrid(axis, axis)
    waves = 0.4 + 0.01 * np.sin(6 * x) + 0.01 * y**2
    spike = waves + (10 * np.exp(-60 * ((x - 0.7) ** 2 + (y - 0.7) ** 2)) if kind == "spike" else 0)
    surfaces = [make({"train_loss": spike}, alpha=axis, beta=axis)]
    if kind == "panels":
        surfaces.append(make({"train_loss": 1 + 9 * (x**2 + y**2)}, alpha=axis, beta=axis, name="high.h5"))
    options = Options(kind="surface", log=False, **({"low": 0.0, "high": 10.0} if kind == "ends" else {}))
    (relief,) = drawn(compose(surfaces, options), Poly3DCollection)
    bright = relief.get_facecolor()[:, :3] @ [0.2126, 0.7152, 0.0722]
    low = np.concatenate(relief._faces).reshape(len(relief._faces), -1, 3)[..., 2].max(axis=1) < 1
    assert low.mean() > 0.8
    assert np.quantile(bright[low], 0.9) > 0.18
    if kind != "spike":  # which takes all the light
        assert np.quantile(bright[low], 0.9) > 2 * np.quantile(bright[low], 0.1)


def test_a_relief_has_no_facet_with_a_corner_that_is_not_finite(make):
    axis = np.linspace(-1, 1, 120)  # too many points for facets between them
    values = bowl(axis, axis)
    values[0, 0] = values[50, 60] = np.nan
    figure = compose([make({"train_loss": values}, alpha=axis, beta=axis)], Options(kind="surface"))
    (relief,) = drawn(figure, Poly3DCollection)
    assert len(relief._faces) == 119 * 119 - 1 - 4
    assert np.isfinite(relief._faces).all()


@pytest.mark.slow
def test_log_heights_are_labelled_with_losses(make, layout):
    axis = np.linspace(-1, 1, 9)
    figure = compose([make({"train_loss": chaos(axis, axis)}, alpha=axis, beta=axis)], Options(kind="surface"))
    figure.draw_without_rendering()
    ticks = figure.axes[0].zaxis.get_ticklabels()
    assert {"0.1", "1", "10"} <= {tick.get_text() for tick in ticks}


@pytest.mark.parametrize("kind", PLANES)
def test_every_kind_says_what_it_shows(rectangle, kind):
    text = " ".join(words(compose([rectangle], Options(kind=kind))))
    for said in ("ResNet-56, no shortcuts", "training loss (nats)", "δ direction", "filter-normalised, seed 3"):
        assert said in text


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANES)
def test_every_kind_draws_an_unfinished_surface_and_says_how_far_it_is(unfinished, kind, layout):
    figure = compose([unfinished], Options(kind=kind))
    assert any("20 of 63 points" in text for text in words(figure))


def test_done_points_of_an_unfinished_surface_are_dotted(unfinished):
    axes = compose([unfinished], Options()).axes[0]
    (dots,) = [artist for artist in axes.collections if artist.get_gid() == "done"]
    rows, columns = np.nonzero(unfinished.status)
    expected = np.column_stack([unfinished.alpha[columns], unfinished.beta[rows]])
    np.testing.assert_array_equal(np.asarray(dots.get_offsets()), expected)


@pytest.mark.parametrize("kind", PLANES)
def test_every_kind_leaves_gaps_where_results_are_not_finite(with_gaps, kind):
    figure = compose([with_gaps], Options(kind=kind))
    assert any("inf at 1 point, NaN at 2 points" in text for text in words(figure))


def test_gaps_of_a_heat_map_are_grey_and_nothing_else_is(with_gaps):
    axes = compose([with_gaps], Options(kind="heat")).axes[0]
    (grey,) = [artist for artist in axes.collections if artist.get_gid() == "gaps"]
    painted = ~np.ma.getmaskarray(grey.get_array())
    np.testing.assert_array_equal(painted, ~np.isfinite(with_gaps.metrics["train_loss"]))


def test_theta_is_marked_where_it_is_in_view(make):
    def marks(alpha):
        axes = compose([make({"train_loss": np.arange(9.0).reshape(3, 3)}, alpha=alpha, beta=alpha)], Options()).axes[0]
        return [line.get_xydata().tolist() for line in axes.lines if line.get_gid() == "trained"]

    assert marks(np.linspace(-1, 1, 3)) == [[[0, 0]]]
    assert marks(np.linspace(1, 2, 3)) == []


def test_axes_of_like_ranges_have_equal_aspect(make):
    def aspect(width):
        axes = {"alpha": np.linspace(0, width, 3), "beta": np.linspace(0, 1, 3)}
        return compose([make({"train_loss": np.arange(9.0).reshape(3, 3)}, **axes)], Options()).axes[0].get_aspect()

    assert aspect(1.5) == 1
    assert aspect(30) == "auto"


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANES)
def test_panels_share_one_scale_and_one_colour_bar(make, rectangle, kind):
    axis = np.linspace(-1, 1, 9)
    rough = make({"train_loss": chaos(axis, axis)}, alpha=axis, beta=axis, name="rough.h5")
    figure = compose([rectangle, rough], Options(kind=kind))
    every = np.concatenate([surface.metrics["train_loss"].ravel() for surface in (rectangle, rough)])
    if kind == "surface":
        limits = {axes.get_zlim() for axes in figure.axes}
        assert len(figure.axes) == 2
        np.testing.assert_allclose([*limits], [np.log10([every.min(), every.max()])])
    else:
        assert len(figure.axes) == 3
        norms = [drawn(figure, QuadMesh if kind == "heat" else ContourSet, panel)[0].norm for panel in (0, 1)]
        assert norms[0].vmin == norms[1].vmin == pytest.approx(every.min())
        assert norms[0].vmax == norms[1].vmax == pytest.approx(every.max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contour", pytest.param("filled", marks=pytest.mark.slow)])
def test_labels_of_levels_do_not_touch_each_other(make, kind, layout):
    axis = np.linspace(-1, 1, 41)
    figure = compose([make({"train_loss": chaos(axis, axis)}, alpha=axis, beta=axis)], Options(kind=kind))
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 5
    assert not any(box.count_overlaps(boxes[:index]) for index, box in enumerate(boxes))


@pytest.mark.slow
def test_a_chaotic_plane_loses_no_line_to_its_labels(make, layout):
    axis, level = np.linspace(-1, 1, 61), 1.0
    noise = np.random.default_rng(0).uniform(size=(61, 61)) * 2
    figure = compose([make({"train_loss": noise}, alpha=axis, beta=axis)], Options(levels=(level,), low=0, high=2))
    (lines,) = drawn(figure, ContourSet)
    plain = Figure().add_subplot().contour(axis, axis, noise, levels=[level])
    count, expected = (int((each.get_paths()[0].codes == Path.MOVETO).sum()) for each in (lines, plain))
    assert [text.get_text() for text in figure.axes[0].texts].count("1") > 3
    assert count >= expected > 100


def wide(make, panels, size):
    """Planes with a long title, and with long numbers where they are of a large size."""
    axis = np.linspace(-1, 1, 9)
    job = JOB.replace("resnet56", "package:a_callable_with_quite_a_long_name")
    return [
        make({"train_loss": size * chaos(axis, axis)}, alpha=axis, beta=axis, name=f"{i}.h5", job=job)
        for i in range(panels)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", FRAMED)
@pytest.mark.parametrize(("panels", "size"), [(1, 1e6), (2, 1)])
def test_nothing_is_cut_off_at_the_edges_of_the_figure(make, kind, panels, size, layout):
    figure = compose(wide(make, panels, size), Options(kind=kind))
    figure.set_dpi(200)  # that of a file, to which the sizes of letters are rounded
    content, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert content.xmin > 0
    assert content.ymin > 0
    assert content.xmax < width
    assert content.ymax < height


@pytest.mark.slow
@pytest.mark.parametrize("width", [1e-6, 1e-9])
def test_what_a_tiny_range_is_above_fits_beside_the_heights(make, width, layout):
    surface = make({"train_loss": 2.2999968 + width * bowl(ALPHA, BETA)})
    figure = compose([surface], Options(kind="surface"))
    figure.set_dpi(200)
    assert figure.get_tightbbox().xmax < figure.get_size_inches()[0]


@pytest.mark.slow
def test_the_edges_of_a_picture_are_white(make, folder, layout):
    save(compose(wide(make, 1, 1e6), Options(kind="surface")), folder / "figure.png")
    with Image.open(folder / "figure.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.min() < 50
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()


@pytest.mark.parametrize("kind", FRAMED)
def test_a_constant_surface_can_be_drawn(make, kind, layout):
    compose([make({"train_loss": np.full((7, 9), 2.5)})], Options(kind=kind))


def test_a_descending_axis_is_drawn_the_right_way_round(make):
    alpha = np.linspace(1.1, -0.5, 9)
    beta = np.linspace(-1.0, 0.4, 7)
    figure = compose([make({"train_loss": bowl(alpha, beta)}, alpha=alpha)], Options(kind="heat"))
    (mesh,) = drawn(figure, QuadMesh)
    assert mesh.get_coordinates()[0, 0, 0] > mesh.get_coordinates()[0, -1, 0]
    assert mesh.get_array()[0, 0] == bowl(alpha, beta)[0, 0]


def test_a_single_row_is_a_heat_map_but_has_no_contours(make):
    surface = make({"train_loss": np.arange(9.0)[None, :] + 1}, beta=np.zeros(1))
    compose([surface], Options(kind="heat"))
    with pytest.raises(UserError, match=r"a plane of 9 x 1 points has no area; expected --kind heat"):
        compose([surface], Options(kind="contour"))


def test_levels_of_a_picture_without_contours_are_refused(rectangle):
    with pytest.raises(UserError, match=r"--levels: --kind heat has no contours; expected --kind contour or filled"):
        compose([rectangle], Options(kind="heat", levels=(1.0,)))


def test_a_surface_of_nothing_but_nan(make):
    with pytest.raises(UserError, match=r"train_loss is NaN or inf at all 63 points that are done"):
        compose([make({"train_loss": np.full((7, 9), np.nan)})], Options())


def test_a_surface_that_has_just_begun(make):
    with pytest.raises(UserError, match="nothing to draw yet: 0 of 63 points are done"):
        compose([make({"train_loss": np.full((7, 9), np.nan)}, status=np.zeros((7, 9), np.uint8))], Options())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("contour", 1e-6),
        ("surface", 2.3e-16),
        *(pytest.param(kind, 2.3e-16, marks=pytest.mark.slow) for kind in ("contour", "filled", "heat")),
        *(pytest.param(kind, width, marks=pytest.mark.slow) for kind, width in (("contour", 1e-9), ("filled", 2e-13))),
    ],
)
def test_a_tiny_range_is_drawn_above_the_least_value(make, kind, width):
    values = 0.9952572840633093 + width * bowl(ALPHA, BETA)
    figure = compose([make({"train_loss": values})], Options(kind=kind))
    figure.draw_without_rendering()
    assert f"above {values.min():.15g}" in " ".join(words(figure)).replace("\n", " ")
    assert figure.axes[0].get_title() == "ResNet-56, no shortcuts"


def test_a_tiny_range_is_left_alone_where_its_levels_are_asked_for(make):
    surface = make({"train_loss": 1 + 1e-7 * bowl(ALPHA, BETA)})
    figure = compose([surface], Options(kind="contour", levels=(1.0000001, 1.0000002)))
    assert "above" not in " ".join(words(figure))


def test_labels_on_dark_bands_have_a_light_edge(make):
    surface = make({"train_loss": bowl(ALPHA, BETA)})
    for kind, edged in (("filled", True), ("contour", False)):
        texts = drawn(compose([surface], Options(kind=kind)), ContourSet)
        labels = [text for lines in (texts if isinstance(texts, list) else [texts]) for text in lines.labelTexts]
        assert labels
        assert all(bool(text.get_path_effects()) == edged for text in labels)


def test_theta_is_marked_on_a_relief_at_its_height(make):
    values = bowl(ALPHA, BETA)
    figure = compose([make({"train_loss": values})], Options(kind="surface", log=False))
    (star,) = [line for line in figure.axes[0].lines if line.get_gid() == "trained"]
    x, y, z = star.get_data_3d()
    assert (x[0], y[0]) == (0, 0)
    assert values.min() < z[0] < 0.4
    away = make({"train_loss": bowl(ALPHA + 3, BETA)}, alpha=ALPHA + 3, name="away.h5")
    relief = compose([away], Options(kind="surface")).axes[0]
    assert not [line for line in relief.lines if line.get_gid() == "trained"]


def test_numbers_of_the_two_axes_of_a_relief_do_not_stand_side_by_side(make):
    relief = compose([make({"train_loss": bowl(ALPHA, BETA)})], Options(kind="surface", log=False)).axes[0]
    alpha, beta = (axis.get_majorticklocs() for axis in (relief.xaxis, relief.yaxis))
    assert (alpha[0], alpha[-1]) == (-0.5, 1)
    assert beta[0] > BETA[0] + 0.1 * (BETA[-1] - BETA[0])
