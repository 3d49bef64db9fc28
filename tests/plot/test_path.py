"""The path of a training run over pictures of a plane and of a line."""

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
from matplotlib.text import Text

from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.figure import PLANES, compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.path import STAR, marked, outside
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.training import Trajectory, joined, write_trajectory
from plot.made_surfaces import JOB, bowl

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]

PCA = JOB.replace("{kind: random, seed: 3}", '{kind: pca, trajectory: "run/epoch-*"}')
FLAT = [kind for kind in PLANES if kind != "surface"]
NORMS = {"delta_norm": 2.0, "eta_norm": 3.0, "cosine": 0.5}
ALPHA = np.array([1.0, 0.7, 0.35, 0.1, 0.0])
BETA = np.array([-0.7, -0.9, -0.4, -0.15, 0.0])
RATES = np.array([math.nan, 0.1, 0.1, 0.01, 0.01])


def with_path(make, *, job=PCA, explained=(0.721, 0.103), alpha=ALPHA, beta=BETA, name="made.h5", **others):
    x, y = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7)
    made = make({"train_loss": bowl(x, y)}, job=job, attributes=NORMS, name=name, **others)
    path = Trajectory((alpha, beta), np.linspace(4.5, 0, 5), 10 * np.arange(5), np.full(5, math.nan), RATES, explained)
    with h5py.File(made.path, "r+") as file:
        write_trajectory(file, path)
    return read_surface(made.path)


def gids(axes):
    return {artist.get_gid(): artist for artist in axes.get_children() if artist.get_gid()}


def words(figure):
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


@pytest.mark.parametrize("kind", FLAT)
def test_the_path_runs_through_its_checkpoints(make, kind):
    axes = compose([with_path(make)], Options(kind=kind)).axes[0]
    found = gids(axes)
    np.testing.assert_array_equal(found["path"].get_segments()[0], np.column_stack([ALPHA, BETA]))
    for gid, where in {"start": [0], "end": [4], "epochs": [1, 2, 3], "drops": [2]}.items():
        np.testing.assert_array_equal(found[gid].get_offsets(), np.column_stack([ALPHA, BETA])[where])


@pytest.mark.parametrize("kind", PLANES)
def test_axes_legend_and_caption_say_what_is_shown(make, kind):
    figure = compose([with_path(make)], Options(kind=kind))
    said = words(figure)
    for text in ("epoch 0", "epoch 40", "learning rate drops", "principal components of the trajectory"):
        assert text in said
    # ||alpha delta + beta eta||^2 of the second checkpoint: 1.4^2 + 2.7^2 - 2 * 0.5 * 1.4 * 2.7
    assert f"path of 5 checkpoints: up to {math.sqrt(5.47):.3g} from θ* in the plane, 4.5 off it" in said
    assert "72.1 %" in figure.axes[0].get_xlabel()
    assert "10.3 %" in figure.axes[0].get_ylabel()
    if kind != "surface":
        assert figure.axes[0].get_xlabel().endswith("(1st PCA component: 72.1 %)")


def test_the_path_on_a_relief_stands_as_high_as_the_surface(make):
    surface = with_path(make)
    axes = compose([surface], Options(kind="surface", log=False)).axes[0]
    x, y, z = gids(axes)["path"].get_data_3d()
    np.testing.assert_array_equal((x, y), (ALPHA, BETA))
    column, row = np.searchsorted(surface.alpha, x) - 1, np.searchsorted(surface.beta, y) - 1
    loss = surface.metrics["train_loss"]
    for k in range(5):
        corners = loss[row[k] : row[k] + 2, column[k] : column[k] + 2]
        assert corners.min() <= z[k] <= corners.max()
    exact = np.array([bowl(x[k : k + 1], y[k : k + 1])[0, 0] for k in range(5)])
    np.testing.assert_allclose(z, exact, atol=0.09)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FLAT)
def test_a_path_that_leaves_the_picture_moves_no_limit_and_is_counted(make, kind):
    here = with_path(make)
    far = with_path(make, alpha=ALPHA * [5, 1, 1, 1, 1], beta=BETA * [1, 5, 1, 1, 1], name="far.h5")
    panels = [compose([surface], Options(kind=kind)) for surface in (here, far)]
    limits = [(figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) for figure in panels]
    assert limits[0] == limits[1]
    assert "beyond the picture" not in words(panels[0])
    assert "4.5 off it, 2 beyond the picture" in words(panels[1])


def test_a_relief_has_the_path_only_where_it_has_a_height(make):
    far = with_path(make, alpha=ALPHA * [5, 1, 1, 1, 1])
    z = gids(compose([far], Options(kind="surface")).axes[0])["path"].get_data_3d()[2]
    assert np.isnan(z).tolist() == [True, False, False, False, False]


def test_a_random_plane_shows_a_path_without_components(make):
    figure = compose([with_path(make, job=JOB, explained=())], Options())
    assert figure.axes[0].get_xlabel().endswith("(δ direction)")
    assert "path of 5 checkpoints" in words(figure)


def on_a_line(make, alpha=ALPHA, attributes=NORMS):
    losses = {name: np.linspace(1, 3, 9) for name in ("train_loss", "test_loss")}
    made = make(losses, beta=None, job=PCA, attributes=attributes)
    path = Trajectory((alpha,), np.linspace(4.5, 0, 5), 10 * np.arange(5), np.full(5, math.nan), RATES, (0.721,))
    with h5py.File(made.path, "r+") as file:
        write_trajectory(file, path)
    return compose([read_surface(made.path)], Options())


def test_a_line_has_the_path_along_its_lower_edge(make):
    figure = on_a_line(make)
    axes = figure.axes[0]
    found = gids(axes)
    for gid, where in {"path": slice(None), "start": [0], "end": [4], "epochs": [1, 2, 3], "drops": [2]}.items():
        x, height = found[gid].get_data()
        np.testing.assert_array_equal(x, ALPHA[where])
        assert set(height) == {0.03}
        assert found[gid].get_transform() == axes.get_xaxis_transform()
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named == ["training", "test", "epoch 0", "epoch 40", "learning rate drops"]
    # alpha = 1 along a delta of length 2
    assert "path of 5 checkpoints: up to 2 from θ* on the line, 4.5 off it" in words(figure)


def test_a_path_that_leaves_a_line_moves_no_limit_and_is_counted(make):
    here, far = on_a_line(make), on_a_line(make, alpha=ALPHA * [5, 1, 1, 1, 1], attributes={})
    assert here.axes[0].get_xlim() == far.axes[0].get_xlim()
    assert here.axes[0].get_ylim() == far.axes[0].get_ylim()
    assert "beyond the picture" not in words(here)
    assert "up to 4.5 off the line, 1 beyond the picture" in words(far)


def test_the_title_of_a_line_stands_above_both_rows_of_its_legend(make, layout):
    figure = on_a_line(make)
    axes = figure.axes[0]
    assert axes.title.get_window_extent().y0 >= axes.get_legend().get_window_extent().y1


@pytest.mark.slow
def test_marks_on_one_spot_stand_around_each_other(make):
    """A run that drops its learning rate at its last checkpoint but one, beside theta*, where it ends."""
    late = with_path(make, alpha=np.array([1.0, 0.7, 0.01, 0.004, 0.0]), beta=np.array([-0.7, -0.9, 0.01, 0.0, 0.0]))
    ((_, _, found),) = marked(field_of(late), late.trajectory)
    sizes = {mark.gid: mark for mark in found}
    drop, end, start = (sizes[gid] for gid in ("drops", "end", "start"))
    assert drop.size / 2 > 0.36 * STAR  # the star's body lies within the diamond, and that within the circle
    assert end.size / 2 > drop.radius
    assert drop.below < end.below
    assert (start.size, sizes["epochs"].size) == (4.2, 1.8)
    apart = with_path(make, name="apart.h5")
    ((_, _, usual),) = marked(field_of(apart), apart.trajectory)
    assert {mark.gid: mark.size for mark in usual}["drops"] == 4.2
    for kind in PLANES:
        every = [artist for artist in compose([late], Options(kind=kind)).axes[0].get_children() if artist.get_gid()]
        above = {artist.get_gid(): artist.get_zorder() for artist in every}
        assert above["trained"] > above["drops"] > above["end"] > above["epochs"] > above["path"]


def test_runs_that_start_at_one_spot_show_a_square_each(make):
    surface = with_path(make)
    paths = [replace(surface.trajectory, coordinates=(ALPHA * factor, BETA)) for factor in (1, 1.001, 0.999)]
    runs = joined(paths, ["a", "b", "c"])
    sizes = [m.size for _, _, found in marked(field_of(surface), runs) for m in found if m.gid == "start"]
    assert np.diff(sizes).min() > 1
    assert sizes[-1] < 10


@pytest.mark.slow
def test_labels_of_levels_may_lie_beside_the_path(make, layout):
    """The box around the path is most of the picture: labels keep off the path's points, not off its box."""
    axes = compose([with_path(make)], Options()).axes[0]
    places = np.array([text.get_position() for text in axes.texts if text.get_text() != "θ*"])
    inside = (places > [0, BETA.min()]) & (places < [ALPHA.max(), 0])
    assert inside.all(axis=1).any()


@pytest.mark.slow
def test_surfaces_without_a_path_are_drawn_as_ever(make, rectangle, line):
    assert not {"path", "start", "end"} & set(gids(compose([rectangle], Options()).axes[0]))
    assert outside(field_of(rectangle), with_path(make).trajectory) == 0
    assert compose([rectangle], Options()).axes[0].get_legend() is None
    compose([line], Options())


@pytest.mark.slow
def test_a_long_label_of_a_low_panel_is_broken(make):
    """A panel half as high as wide has no room for the whole label of its beta axis."""
    x, y = np.linspace(-2, 2, 9), np.linspace(-1, 1, 7)
    label = compose([with_path(make, alpha=ALPHA, name="low.h5")], Options()).axes[0].get_ylabel()
    assert "\n" not in label
    made = make({"train_loss": bowl(x, y)}, alpha=x, beta=y, job=PCA)
    with h5py.File(made.path, "r+") as file:
        write_trajectory(file, Trajectory((ALPHA, BETA), ALPHA, np.arange(5), RATES, RATES, (0.9, 0.05)))
    assert compose([read_surface(made.path)], Options()).axes[0].get_ylabel() == "β (2nd PCA component:\n5.0 %)"


@pytest.mark.parametrize("kind", PLANES)
def test_several_runs_have_a_colour_and_a_name_each(make, kind):
    surface = with_path(make)
    run = surface.trajectory
    both = joined([run, replace(run, coordinates=(-run.alpha, run.beta))], ["sgd", "_adam"])
    figure = compose([replace(surface, trajectory=both)], Options(kind=kind))
    axes = figure.axes[0]
    paths = [artist for artist in axes.get_children() if artist.get_gid() == "path"]
    assert len({str(np.ravel(artist.get_color()).tolist()) for artist in paths}) == 2
    legend = [text.get_text().strip() for text in axes.get_legend().get_texts()]
    assert legend == ["sgd", "_adam", "start", "end", "learning rate drops"]
    assert "sgd: path of 5 checkpoints" in words(figure)


def test_a_line_has_its_runs_one_above_the_other(make):
    x = np.linspace(-0.5, 1.1, 9)
    surface = make({"train_loss": x**2}, alpha=x, beta=None, name="flat.h5")
    run = Trajectory((ALPHA,), np.zeros(5), np.arange(5), np.full(5, math.nan), RATES)
    axes = compose([replace(surface, trajectory=joined([run, run], ["a", "b"]))], Options()).axes[0]
    heights = [line.get_ydata()[0] for line in axes.lines if line.get_gid() == "path"]
    assert 0 < heights[0] < heights[1] < 0.2


def test_a_path_of_very_many_drops_is_drawn_at_once(make):
    """Its marks, which nobody can tell apart, keep their sizes: each is compared with every other one."""
    count = 20_000
    surface = with_path(make)
    rates = 0.5 ** np.arange(count)
    steps = np.linspace(1, 0, count)
    many = Trajectory((steps, -steps), steps, np.arange(count), steps, np.where(rates > 0, rates, 0.0))
    ((_, _, found),) = marked(field_of(surface), many)
    assert {mark.gid: mark.size for mark in found} == {"epochs": 1.8, "start": 4.2, "end": 7.5, "drops": 4.2}
