"""Lit landscapes: their shape, their light, the pictures of VTK and of matplotlib, their sizes, films and refusals."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from landscape_mpi.errors import UserError
from landscape_mpi.plot import opengl, relief, render
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.camera import Camera, cameras, towards
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options, parse_size, parse_view
from landscape_mpi.plot.scale import scale_of
from plot.made_surfaces import bowl, write

ALPHA, BETA = np.linspace(-1, 1, 9), np.linspace(-1, 1, 7)
BY_MATPLOTLIB = "note: matplotlib draws this picture, in coarser facets: vtk is not installed"


@pytest.fixture(autouse=True)
def coarse_meshes(monkeypatch):
    """Meshes of a tenth of the vertices: their light takes milliseconds."""
    monkeypatch.setattr(relief, "VERTICES", 48)


@pytest.fixture
def without_vtk(monkeypatch):
    monkeypatch.setattr(opengl, "REQUIRED", "no_such_package")


def mesh(surface, **options):
    field = field_of(surface)
    return relief.mesh_of(field, scale_of([field], Options(**options)))


def opaque(pixels):
    return pixels[..., 3] > 128  # where facets of matplotlib meet, a little of what is behind them shows


def test_the_mesh_passes_through_every_point_of_the_grid(make):
    made = mesh(make({"train_loss": bowl(ALPHA, BETA)}, alpha=ALPHA, beta=BETA), log=False)
    heights = bowl(ALPHA, BETA)
    expected = relief.HEIGHT * ((heights - heights.min()) / np.ptp(heights) - 0.5)
    every = made.points[:: (len(made.points) - 1) // 6, :: (made.points.shape[1] - 1) // 8]
    np.testing.assert_allclose(every[..., 2], expected, atol=1e-6)
    np.testing.assert_allclose(every[0, :, 0], ALPHA / 2, atol=1e-6)
    np.testing.assert_allclose(every[:, 0, 1], BETA / 2, atol=1e-6)
    assert made.whole.all()


def test_a_sampled_surface_is_smoothed_within_its_bars_and_a_full_one_is_not(make):
    signs = (-1.0) ** np.add.outer(np.arange(BETA.size), np.arange(ALPHA.size))
    truth = bowl(ALPHA, BETA)
    ripples = {"train_loss": truth + 0.05 * signs}
    full = make(ripples, alpha=ALPHA, beta=BETA)
    sampled = make(ripples | {"train_loss_bar": 0.1 * np.abs(signs)}, alpha=ALPHA, beta=BETA, name="sampled.h5")
    meshes = [mesh(each, log=False, low=0.0, high=10.0).points[..., 2] for each in (full, sampled)]
    heights = [each[:: (len(each) - 1) // 6, :: (each.shape[1] - 1) // 8] for each in meshes]
    left = [each - relief.HEIGHT * (truth / 10 - 0.5) for each in heights]
    rippled, smooth = (abs((each * signs).mean()) for each in left)
    assert rippled == pytest.approx(relief.HEIGHT * 0.05 / 10, rel=1e-3)
    assert smooth < 0.3 * rippled
    words = "smoothed within the error bars"
    assert words in compose([sampled], Options(kind="render")).get_label()
    exact = make(ripples | {"train_loss_bar": 0 * signs}, alpha=ALPHA, beta=BETA, name="exact.h5")
    for unchanged in (full, exact):
        assert words not in compose([unchanged], Options(kind="render")).get_label()


def test_between_points_a_cubic_keeps_its_slope_and_a_descending_axis_changes_nothing(make):
    values = np.sin(2 * ALPHA)[None, :] + BETA[:, None]
    made = mesh(make({"train_loss": values}, alpha=ALPHA, beta=BETA))
    turned = mesh(make({"train_loss": values[::-1, ::-1]}, alpha=ALPHA[::-1], beta=BETA[::-1], name="turned.h5"))
    np.testing.assert_allclose(turned.points, made.points, atol=1e-6)
    middle = made.points[0, :, 2] + relief.HEIGHT / 2
    exact = (np.sin(2 * 2 * made.points[0, :, 0].astype(float)) - 1 - values.min()) / np.ptp(values) * relief.HEIGHT
    assert np.abs(middle - exact).max() < 2e-3  # linear interpolation is off by 7e-3


def test_gaps_are_not_drawn_and_what_lies_below_the_low_end_has_a_round_bottom(make):
    values = np.exp(6 * np.hypot(ALPHA[None, :], BETA[:, None])) * 1e-3
    values[3, 1] = np.nan
    made = mesh(make({"train_loss": values}, alpha=ALPHA, beta=BETA), log=True, low=0.01)
    parts = made.whole.shape[0] // 6, made.whole.shape[1] // 8
    hole = np.zeros_like(made.whole)
    hole[2 * parts[0] : 4 * parts[0], : 2 * parts[1]] = True
    np.testing.assert_array_equal(made.whole, ~hole)
    bottom = made.points[3 * parts[0], 4 * parts[1], 2]
    assert -relief.HEIGHT / 2 < bottom < -relief.HEIGHT / 2 + 0.02


@pytest.mark.parametrize("side", [-1, 1])
def test_a_slope_is_bright_towards_the_sun_and_dark_away_from_it(make, side):
    """The sun of a camera at azimuth 98 stands at 0, towards +alpha: it lights slopes that fall towards +alpha."""
    field = field_of(make({"train_loss": 5 - side * ALPHA[None, :] + 0 * BETA[:, None]}, alpha=ALPHA, beta=BETA))
    scale = scale_of([field], Options(log=False))
    made = relief.mesh_of(field, scale, (), -relief.BESIDE)
    x, y = (np.asarray(axis, dtype=float) for axis in (made.points[0, :, 0], made.points[:, 0, 1]))
    light = relief.light(x, y, made.points[..., 2].astype(float), made.normals.astype(float), 0.0).mean()
    flat = relief.light(x, y, np.zeros(made.points.shape[:2]), np.broadcast_to([0.0, 0, 1], made.points.shape), 0.0)
    assert (light - flat.mean()) * side > 0.1


def test_a_wall_hides_sun_and_sky_beside_it():
    axis = np.linspace(0, 1, 41)
    wall = np.where(np.abs(axis - 0.5) < 0.05, 0.3, 0.0)[None, :] + np.zeros((41, 1))
    sun, sky = relief.sun_seen(axis, axis, wall, 0.0), relief.sky_seen(axis, axis, wall)
    assert sun[20, 16] == 0  # the sun stands over +x: the wall's shadow falls towards -x
    np.testing.assert_allclose(sun[20, [0, 24, 40]], 1)
    assert sky[20, 17] == pytest.approx(sky[20, 22], abs=0.02)
    assert sky[20, 17] < 0.6 < 0.8 < sky[20, 0]
    np.testing.assert_array_equal(relief.sky_seen(axis, axis, 0 * wall), 1)


def test_all_cameras_have_all_points_in_their_pictures():
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 3))
    size = 300, 200
    found = cameras(points, [10, 100, 250], size)
    places = np.concatenate([camera.project(points, size) for camera in found])
    assert (places >= 0).all()
    assert (places[:, :2] <= size).all()
    assert (np.ptp(places[:, :2], axis=0) / size).max() == pytest.approx(0.96, abs=0.01)
    distances = [np.linalg.norm(camera.place - camera.focus) for camera in found]
    np.testing.assert_allclose(distances, distances[0])


def test_a_camera_sees_what_is_right_of_it_on_the_right_and_what_is_up_above():
    camera = Camera(4 * towards(-90, 20), np.zeros(3))  # from -beta
    middle, right, up = camera.project(np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0, 0.1]]), (100, 80))
    np.testing.assert_allclose(middle, [50, 40, 4])
    assert right[0] > 50
    assert right[1] == pytest.approx(40)
    assert up[0] == pytest.approx(50)
    assert up[1] > 40


@pytest.mark.parametrize("size", [("--size", "240x160"), ("--size", "161x97")])
def test_matplotlib_draws_where_vtk_is_missing_and_says_so_in_one_sentence(tmp_path, capsys, without_vtk, size):
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    assert main([str(path), "--kind", "render", *size, "--levels", "1,2,4"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/s_train_loss_render.png\n"
    (sentence,) = captured.err.splitlines()
    assert sentence.startswith(BY_MATPLOTLIB)
    with Image.open(tmp_path / "s_train_loss_render.png") as image:
        assert image.size == tuple(map(int, size[1].split("x")))
        assert image.info["Description"].startswith("ResNet-56, no shortcuts · training loss (nats) · random")
        _check(np.array(image))


def _check(pixels):
    """Check that a picture has something in its middle, nothing in its corners, and more than one colour."""
    assert not pixels[[0, 0, -1, -1], [0, -1, 0, -1], 3].any()
    seen = opaque(pixels)
    assert 0.2 < seen.mean() < 0.9
    assert seen[pixels.shape[0] // 2, pixels.shape[1] // 2]
    assert len(np.unique(pixels[seen][:, :3], axis=0)) > 100


@pytest.mark.slow
def test_vtk_draws_without_a_screen_what_matplotlib_draws(make, monkeypatch):
    pytest.importorskip("vtkmodules.vtkRenderingOpenGL2", reason="vtk is not installed")
    monkeypatch.delenv("DISPLAY", raising=False)
    made = mesh(make({"train_loss": bowl(ALPHA, BETA)}, alpha=ALPHA, beta=BETA))
    size = 160, 120
    found = cameras(made.points[::4, ::4].reshape(-1, 3).astype(float), [302.0, 122.0], size)
    try:
        pictures = opengl.drawn([made], [(0, camera) for camera in found], size)
    except opengl.NotDrawnError as why:
        pytest.skip(str(why))
    assert not np.array_equal(*pictures)
    for picture, camera in zip(pictures, found, strict=True):
        assert picture.shape == (120, 160, 4)
        _check(picture)
        other = render.by_matplotlib(made, camera, size)
        assert (opaque(other) != opaque(picture)).mean() < 0.03
        both = opaque(other) & opaque(picture)
        # VTK adds gloss, and darkens what is seen from below
        assert np.median(np.abs(picture[both][:, :3].astype(int) - other[both][:, :3])) < 8


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os; os.write(2, b'no display\\n\\n'); os.abort()", "ended with SIGABRT and said 'no display'"),
        ("import os; os._exit(3)", "ended with exit code 3$"),
        ("import vtk_of_nobody", "ended with exit code 1 and said .*No module named 'vtk_of_nobody'"),
    ],
)
def test_what_a_process_that_cannot_draw_said_is_told(make, monkeypatch, program, told):
    pytest.importorskip("vtkmodules.vtkRenderingOpenGL2", reason="vtk is not installed")
    made = mesh(make({"train_loss": bowl(ALPHA, BETA)}, alpha=ALPHA, beta=BETA))
    monkeypatch.setattr(opengl, "PROGRAM", program)
    with pytest.raises(opengl.NotDrawnError, match=rf"VTK, which needs a screen, EGL or OSMesa, {told}"):
        opengl.drawn([made], [], (100, 100))


def test_several_surfaces_stand_side_by_side_with_titles(make, without_vtk):
    one, two = (make({"train_loss": bowl(ALPHA, BETA)}, alpha=ALPHA, beta=BETA, name=f"{n}.h5") for n in "ab")
    figure = compose([one, two], Options(kind="render", size=(400, 200), title="both", captions=("left", "right")))
    assert [axes.get_title() for axes in figure.axes] == ["left", "right"]
    assert figure.get_suptitle() == "both"
    assert figure.axes[1].bbox.x0 - figure.axes[0].bbox.x0 == pytest.approx(200, abs=0.1)


def test_a_single_surface_turns_around_in_a_film(tmp_path, capsys, without_vtk, monkeypatch):
    monkeypatch.setattr("landscape_mpi.plot.film.TURN", 3)
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    target = tmp_path / "turn.gif"
    assert main([str(path), "--kind", "render", "--size", "120x90", "--movie", str(target)]) == 0
    with Image.open(target) as film:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    assert [frame.shape for frame in frames] == [(90, 120, 3)] * 3
    assert all((frame[0, 0] == 255).all() for frame in frames)
    assert not np.array_equal(frames[0], frames[1])


def test_sizes_and_views():
    assert [parse_size(text) for text in ("square", "wide", "100x70")] == [(1600, 1600), (1920, 1080), (100, 70)]
    assert parse_view("-30,12.5") == (-30, 12.5)


@pytest.mark.parametrize("text", ["", "big", "100", "100x", "10x100", "100x9000", "100x100x100", "-100x100", "1e3x100"])
def test_sizes_that_are_none(text):
    with pytest.raises(
        UserError, match=r"^--size: found .* expected square, wide or WIDTHxHEIGHT in pixels, 64 to 8192"
    ):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "10", "1,2,3", "nan,20", "10,90", "10,0", "a,b"])
def test_views_that_are_none(text):
    with pytest.raises(
        UserError, match=r"^--view: found .* expected AZIMUTH,ELEVATION in degrees, the elevation 5 to 85"
    ):
        parse_view(text)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--size", "wide"], "--size: is for lit pictures; expected --kind render as well"),
        (["--kind", "surface", "--view", "1,20"], "--view: is for lit pictures; expected --kind render as well"),
        (["--kind", "render", "--trajectory", "p.h5"], "--trajectory: --kind render draws no path"),
        (["--kind", "render", "--trajectory", "p.h5", "--movie", "m.gif"], "--trajectory: --kind render draws no path"),
    ],
)
def test_what_does_not_go_together(tmp_path, capsys, flags, sentence):
    path = write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})
    assert main([str(path), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_a_line_has_no_landscape(line):
    with pytest.raises(UserError, match=r"found a line of 41 points, which --kind render cannot draw"):
        compose([line], Options(kind="render"))
