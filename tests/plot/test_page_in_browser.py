"""The page in a real Chromium: what it draws, what its controls do, on a desktop, on a phone, in the dark."""

import math
import re
from functools import partial

import h5py
import numpy as np
import pytest

from landscape_mpi.plot.options import Options
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.training import Trajectory, write_trajectory
from plot.browsing import (
    AT_FIRST,
    DESKTOP,
    PHONE,
    as_at_first,
    drawn,
    eye,
    heights,
    middle,
    opened,
    plain,
    point_at,
    running,
    told,
    until,
)
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import JOB, bowl, bowls, coarse, write

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IMAGE = "<img src=x onerror='window.stolen = 1'>"
HOSTILE = f"a: </script><script>window.stolen = 1</script>{IMAGE}\n"
LOSS = bowl(ALPHA, BETA)


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests."""
    with running() as program:
        yield program


@pytest.fixture(scope="module")
def visit(chromium, tmp_path_factory):
    """Open a page of some surfaces; see `opened`."""
    folder = tmp_path_factory.mktemp("pages")
    return partial(opened, chromium, folder)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """Two planes: the second ten times as high, with a path of training and the same grid."""
    folder = tmp_path_factory.mktemp("planes")
    metrics = {
        "train_loss": LOSS,
        "train_loss_stderr": LOSS / 100,
        "train_acc": 100 / (1 + LOSS),
        "test_loss": LOSS + 1,
    }
    paths = [
        write(folder / f"{IMAGE}.h5", ALPHA, BETA, metrics, job=HOSTILE + JOB, attributes={IMAGE: IMAGE}),
        write(folder / "two.h5", ALPHA, BETA, {**metrics, "train_loss": 10 * LOSS}, job=JOB.replace("none", "pad")),
    ]
    steps = np.arange(3)
    path = Trajectory((steps / 4, -steps / 4), steps / 1, steps, steps / 1, np.array([math.nan, 0.1, 0.01]))
    with h5py.File(paths[1], "r+") as file:
        write_trajectory(file, path)
    return [read_surface(path) for path in paths]


@pytest.fixture(scope="module")
def two(visit, surfaces):
    """Both planes on a desktop."""
    return visit(surfaces, Options(log=False), **DESKTOP)


@pytest.fixture(scope="module")
def two_flat(visit, surfaces):
    """Both planes where nothing is drawn in three dimensions, which without a GPU is what takes long."""
    return visit(surfaces, Options(log=False), webgl=False, **DESKTOP)


@pytest.fixture
def page(two):
    """The page of two planes, as it was when it was opened."""
    return as_at_first(two.page)


@pytest.fixture
def flat(two_flat):
    """The same in a browser without WebGL: everything but the third dimension works."""
    return as_at_first(two_flat.page)


def test_both_planes_are_drawn_from_their_own_numbers_on_one_scale(page):
    assert np.allclose(heights(page), LOSS)
    assert np.allclose(heights(page, 1), 10 * LOSS)
    ends = page.evaluate("[...document.querySelectorAll('.relief')].map(({data: [d]}) => [d.cmin, d.cmax])")
    assert np.allclose(ends, [[LOSS.min(), 10 * LOSS.max()]] * 2)
    ends = page.evaluate("[...document.querySelectorAll('.contours')].map(({data: [d]}) => [d.zmin, d.zmax])")
    assert np.allclose(ends, [[LOSS.min(), 10 * LOSS.max()]] * 2)
    assert page.title() == "ResNet-56, no shortcuts · ResNet-56, padded shortcuts"


def test_pixels_are_painted_in_three_dimensions(page):
    """WebGL really draws: the canvas shows many colours."""
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(page.locator(".relief").first.screenshot())) as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100


def test_metric_and_split_can_be_chosen(page):
    page.locator("#split").select_option("test")
    assert np.allclose(heights(page), LOSS + 1)
    page.locator("#metric").select_option("accuracy")
    assert np.allclose(heights(page), 100 / (1 + LOSS))
    assert page.locator("#split").input_value() == "train"
    assert "training accuracy (%)" in page.locator(".contours").first.inner_text()


def test_the_height_can_be_logarithmic(flat):
    flat.locator("#scale").select_option("logarithmic")
    assert np.allclose(heights(flat), np.log10(LOSS))
    ticks = flat.evaluate("document.querySelector('.relief').layout.scene.zaxis")
    assert dict(zip(ticks["ticktext"], ticks["tickvals"], strict=True))["10"] == pytest.approx(1)
    flat.locator("#scale").select_option("automatic")
    assert np.allclose(heights(flat), np.log10(LOSS))


def test_what_the_height_is_stands_beside_the_axis_which_has_few_numbers(flat):
    layout = flat.evaluate("document.querySelector('.relief').layout")
    assert [note["text"] for note in layout["annotations"]] == ["height: training loss (nats)"]
    height = layout["scene"]["zaxis"]
    assert (height["title"]["text"], height["nticks"]) == ("", 5)
    flat.locator("#scale").select_option("logarithmic")
    assert len(flat.evaluate("document.querySelector('.relief').layout.scene.zaxis.tickvals")) <= 5


def test_both_views_of_a_plane_are_wider_than_high(flat):
    """One in three dimensions fits its height, so that a narrow one would lose the numbers on its left."""
    size = """() => {
      const box = document.querySelector(".pair > div:last-child").getBoundingClientRect();
      return [box.width, box.height];
    }"""
    try:
        for width in (760, 900, 1040, 1400):
            flat.set_viewport_size({"width": width, "height": 600})
            across, up = flat.evaluate(size)
            assert 200 < up < 0.9 * across, width
    finally:
        flat.set_viewport_size(DESKTOP["viewport"])


def test_a_small_range_is_drawn_above_its_least_value(visit, tmp_path):
    """In the 32 bits in which browsers draw heights, it would be steps or nothing."""
    values = 2.3 + 1e-9 * LOSS
    surface = read_surface(write(tmp_path / "small.h5", ALPHA, BETA, {"train_loss": values}))
    page = visit([surface], Options(log=False), webgl=False, **DESKTOP).page
    assert np.allclose(heights(page), values - values.min(), rtol=0, atol=1e-15)
    (note,) = page.evaluate("document.querySelector('.relief').layout.annotations")
    assert note["text"] == f"height: training loss above {values.min():.15g} (nats)"
    low, high = (float(page.locator(f"#{end}").get_attribute("placeholder")) for end in ("low", "high"))
    assert values.min() == pytest.approx(low, abs=1e-11) != high
    point = float(re.search(r"training loss: (\S+) nats", told(page))[1])
    index = page.evaluate("gridPoint(SURFACES[0], state.place).index")
    assert point == pytest.approx(values.ravel()[index], abs=2e-11)


def test_the_colour_range_can_be_chosen_and_cuts_heights_off(flat):
    flat.locator("#low").fill("1")
    flat.locator("#high").fill("5")
    flat.locator("#high").press("Enter")
    assert np.allclose(heights(flat), np.clip(LOSS, 1, 5))
    assert "cut off" in flat.locator("#note").inner_text()
    flat.locator("#high").fill("0.5")
    flat.locator("#high").press("Enter")
    assert "Range from has to be below Range to" in flat.locator("#note").inner_text()


def test_hovering_says_what_is_known_of_a_point(flat):
    x, y = middle(flat, ".contours .nsewdrag")
    flat.mouse.move(x - 3, y)
    flat.mouse.move(x, y)
    flat.wait_for_selector(".contours .hoverlayer text")
    said = plain(flat.locator(".contours .hoverlayer").first.text_content())
    found = re.search(
        r"alpha = (\S+), beta = (\S+)training loss: (\S+) nats ± (\S+) \(standard error\)training accuracy: ", said
    )
    alpha, beta, loss, error = map(float, found.groups())
    exact = bowl(np.array([alpha]), np.array([beta]))[0, 0]
    assert loss == pytest.approx(exact, rel=1e-3)
    assert error == pytest.approx(exact / 100, rel=1e-3)


def test_a_click_makes_slices_through_its_point(flat):
    flat.mouse.click(*middle(flat, ".contours .nsewdrag"))
    until(flat, "state.place.alpha !== 0")
    place = flat.evaluate("state.place")
    column, row = np.abs(place["alpha"] - ALPHA).argmin(), np.abs(place["beta"] - BETA).argmin()
    assert (column, row) == (4, 3)
    for number, factor in enumerate((1, 10)):
        assert np.allclose(drawn(flat, "#along-alpha")[number]["y"], factor * LOSS[row])
        assert np.allclose(drawn(flat, "#along-beta")[number]["y"], factor * LOSS[:, column])
    assert told(flat).startswith("ResNet-56, no shortcuts: alpha = 0.3, beta = -0.3 · training loss: ")


def test_a_click_in_three_dimensions_moves_the_point_to_what_is_there(page):
    page.evaluate("look(cameraAt(-90, 89))")  # from above: alpha to the right, beta up
    x, y = middle(page, ".relief")
    point_at(page, x + 25, y - 15)
    page.mouse.down()
    page.mouse.up()
    until(page, "state.place.alpha !== 0")
    place = page.evaluate("state.place")
    assert place["alpha"] > ALPHA.mean()
    assert place["beta"] > BETA.mean()
    assert min(np.abs(ALPHA - place["alpha"])) < 1e-9
    assert min(np.abs(BETA - place["beta"])) < 1e-9


def test_a_drag_in_three_dimensions_turns_all_cameras_and_moves_no_point(page):
    x, y = middle(page, ".relief")
    before = eye(page, 0)
    point_at(page, x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y - 20, steps=3)
    page.mouse.up()
    # all three numbers: where frames are slow plotly may turn once around, and one of them may come back
    moved = ", ".join(f"state.camera.eye.{axis} - {old}" for axis, old in zip("xyz", before, strict=True))
    until(page, f"Math.hypot({moved}) > 0.1 && leader === null && !following.size")
    page.wait_for_timeout(200)  # a click would be heard by now
    assert page.evaluate("state.place") == AT_FIRST["place"]
    assert np.allclose(eye(page, 0), eye(page, 1))


def test_cameras_are_locked_to_the_sliders_too(page):
    page.locator("#turn").focus()
    before = eye(page, 1)
    page.keyboard.press("End")
    assert page.locator("#turn").input_value() == "180"
    until(page, f"Math.abs(state.camera.eye.x - {before[0]}) > 0.1 && leader === null && !following.size")
    assert np.allclose(eye(page, 0), eye(page, 1))
    assert eye(page, 1)[0] < -1


def test_arrow_keys_move_the_point(flat):
    flat.locator("#figures").focus()
    outline = flat.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    for key in ("ArrowRight", "ArrowUp"):
        flat.keyboard.press(key)
    place = flat.evaluate("state.place")
    column, row = np.abs(ALPHA).argmin() + 1, np.abs(BETA).argmin() + 1
    assert (place["alpha"], place["beta"]) == pytest.approx((ALPHA[column], BETA[row]))
    flat.locator("#beta").focus()
    flat.keyboard.press("ArrowLeft")  # on a slider, and only there, this is a step back
    assert flat.evaluate("state.place.alpha") == pytest.approx(ALPHA[column])
    assert flat.evaluate("state.place.beta") == pytest.approx(BETA[row - 1])
    assert plain(flat.locator("#beta").get_attribute("aria-valuetext")) == "beta = -0.06667"
    assert outline == "solid"


def test_every_control_is_native_and_has_a_name_as_every_plot_has(flat):
    unnamed = "[...document.querySelectorAll('select, input')].filter((c) => !c.labels.length).length"
    assert flat.evaluate(unnamed) == 0
    assert flat.locator("[role=button], [role=slider], [role=checkbox]").count() == 0
    names = "[...document.querySelectorAll('.js-plotly-plot')].map((plot) => plot.getAttribute('aria-label'))"
    said = flat.evaluate(names)
    assert len(set(said)) == len(said) == 6
    assert said[:2] == ["Surface in three dimensions: ResNet-56, no shortcuts", "Contours: ResNet-56, no shortcuts"]
    assert flat.locator("#legend li").all_inner_texts() == ["ResNet-56, no shortcuts", "ResNet-56, padded shortcuts"]


def test_the_path_of_training_lies_on_the_surface(page):
    traces = page.evaluate("document.querySelectorAll('.relief')[1].data")
    (path,) = [trace for trace in traces if trace["name"] == "trajectory"]
    start = page.evaluate("heightAt(SURFACES[1], SURFACES[1].values.train_loss, 0, 0)")
    ends = page.evaluate("heightsEnds(viewOf().scale)")
    assert 0 < path["z"][0] - start < 0.02 * (ends[1] - ends[0])  # a little above it, to be seen
    assert LOSS.min() * 10 < start < LOSS.max() * 10
    assert plain(path["hovertext"][2]).startswith("epoch 2<br>alpha = 0.5, beta = -0.5<br>training loss there: 2<br>")
    (stops,) = [trace for trace in traces if trace["name"] == "stops"]
    # those that lie below others first; what is under circle and square is seen through them
    assert stops["marker"]["symbol"] == ["circle-open", "square-open", "diamond"]
    assert (stops["x"], stops["y"]) == ([0.5, 0, 0.25], [-0.5, 0, -0.25])
    assert "square: epoch 0, circle: epoch 2, diamonds: learning rate drops" in page.locator(".facts").last.inner_text()
    assert "trajectory" not in [trace["name"] for trace in drawn(page, ".relief")]


def test_where_a_surface_comes_from_and_its_job_are_folded_out(flat):
    summary = flat.locator("summary").first
    assert not flat.locator("pre").first.is_visible()
    summary.focus()
    flat.keyboard.press("Enter")
    assert flat.locator("pre").first.is_visible()
    assert flat.locator("pre").first.text_content() == HOSTILE + JOB
    assert f"device\ncpu\nseed\n3\n{IMAGE}\n{IMAGE}" in flat.locator("dl").first.inner_text()
    assert flat.locator("summary").first.inner_text() == f"ResNet-56, no shortcuts: where it comes from ({IMAGE}.h5)"
    assert flat.locator("img").count() == 0
    assert flat.evaluate("window.stolen") is None


def test_nothing_is_asked_of_the_network_and_nothing_is_complained_of(two, two_flat):
    for seen in (two, two_flat):
        assert [url for url in seen.requests if not url.startswith(("file://", "data:", "blob:"))] == []
        assert len([url for url in seen.requests if url.startswith("file://")]) == 1
        assert seen.complaints == []


def test_without_webgl_the_page_says_so_and_shows_the_rest(flat):
    assert "WebGL is not supported by your browser" in flat.locator(".relief").first.inner_text()
    assert flat.locator(".contours .main-svg").first.is_visible()


def test_an_unfinished_plane_on_a_phone_in_the_dark(visit, tmp_path):
    status = coarse((BETA.size, ALPHA.size), 2)
    status[2, 2] = 2
    values = np.where(status == 1, LOSS, np.nan)
    values[0, 0] = np.inf
    job = JOB.replace("resnet56", f'"x:{IMAGE}"')
    surface = read_surface(write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": values}, status=status, job=job))
    seen = visit([surface], color_scheme="dark", **PHONE)
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("h1").inner_text() == f"{IMAGE}, no shortcuts"
    tops = page.evaluate("[...document.querySelectorAll('.relief, .contours, .slice')].map((d) => d.offsetLeft)")
    assert len(set(tops)) == 1  # one column
    assert page.locator(".modebar-btn").count() == 0  # nothing in the way of fingers
    dark = page.evaluate("document.querySelector('.contours').layout.paper_bgcolor")
    assert dark == "#15181c"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 28)"
    assert "19 of 63 points, 1 failed · training loss inf at 1 point" in page.locator(".facts").inner_text()
    assert np.isnan(heights(page)[0, :2]).all()  # beside an inf nothing is interpolated
    assert np.isfinite(heights(page)[5, 5])
    for place in (".contours .nsewdrag", ".relief canvas"):
        corner = "{alpha: SURFACES[0].alpha[0], beta: SURFACES[0].beta[0]}"
        page.evaluate(f"change({{place: {corner}}}); look(cameraAt(-90, 80))")
        page.locator(place).first.tap()
        until(page, "state.place.alpha > SURFACES[0].alpha[0]")
    page.get_by_label("interpolate between computed points").tap()
    shown = heights(page)
    assert np.array_equal(np.isfinite(shown), (status == 1) & np.isfinite(values))
    points = {trace["name"]: len(trace["x"]) for trace in drawn(page, ".contours") if trace["type"] == "scatter"}
    assert (points["computed"], points["failed"]) == (19, 1)
    page.evaluate("change({place: {alpha: SURFACES[0].alpha[2], beta: SURFACES[0].beta[2]}})")
    assert "failed: no result" in told(page)
    page.emulate_media(color_scheme="light")
    until(page, "document.querySelector('.contours').layout.paper_bgcolor === '#ffffff'")
    assert page.evaluate("window.stolen") is None
    assert seen.complaints == []


def test_a_line_has_one_plot_with_losses_and_accuracies(visit, line):
    seen = visit([line], **DESKTOP)
    page = seen.page
    curves = {curve["name"]: curve for curve in drawn(page, ".line")}
    assert list(curves) == ["training loss", "test loss", "training accuracy", "test accuracy"]
    for name, metric in (("test loss", "test_loss"), ("training accuracy", "train_acc")):
        assert np.allclose(curves[name]["y"], line.metrics[metric])
    assert (curves["test loss"]["line"]["dash"], curves["test accuracy"]["yaxis"]) == ("dash", "y2")
    assert not page.locator("#tilt").is_visible()
    page.locator("#alpha").focus()
    page.keyboard.press("ArrowRight")
    assert "alpha = 0.05 · training loss: " in told(page)
    page.locator("#metric").select_option("accuracy")
    assert len(drawn(page, ".line")) == 2
    assert seen.complaints == []


def test_a_slider_goes_through_the_planes_of_a_volume(visit, tmp_path):
    gamma = np.array([-0.5, 0.0, 0.25, 1.0])
    loss = bowls(ALPHA, BETA, gamma)
    status = np.ones(loss.shape, np.uint8)
    status[3, 0, 0] = 0
    steps, unknown = np.linspace(0.4, 0, 3), np.full(3, np.nan)
    run = Trajectory((steps, -steps, 2 * steps), 0 * steps, np.arange(3), unknown, unknown)
    norms = {**dict.fromkeys(("delta_norm", "eta_norm", "zeta_norm"), 1.0), "cosine": 0.0, "cosine_23": 0.0}
    oblique = {**norms, "cosine_13": 0.6}  # of gamma with alpha: on every plane the path lies elsewhere
    path = write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": loss}, gamma=gamma, status=status, attributes=oblique)
    with h5py.File(path, "r+") as file:
        write_trajectory(file, run)
    seen = visit([read_surface(path)], Options(log=False), **DESKTOP)
    page = seen.page
    slider = page.get_by_label("Plane")
    loss[3, 0, 0] = np.nan
    ends = (np.nanmin(loss), np.nanmax(loss))
    page.evaluate("change({place: {alpha: SURFACES[0].alpha[2], beta: SURFACES[0].beta[1]}, fill: false})")
    assert slider.get_attribute("aria-valuetext") == "\N{GREEK SMALL LETTER GAMMA} = 0"
    slider.focus()
    for key, place in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("End", 3)):
        page.keyboard.press(key)
        value = f"\N{GREEK SMALL LETTER GAMMA} = {gamma[place]:g}".replace("-", "\N{MINUS SIGN}")
        assert slider.get_attribute("aria-valuetext") == value
        assert page.locator("#depth span").first.inner_text() == f"Plane {value}"
        body = drawn(page, ".contours")[0]
        assert np.allclose(heights(page), loss[place], equal_nan=True)
        assert np.allclose(np.array(body["z"], float), loss[place], equal_nan=True)
        assert np.allclose((body["zmin"], body["zmax"]), ends)  # one scale for all of them
        assert np.allclose(drawn(page, "#along-alpha")[0]["y"], loss[place, 1])
        assert np.allclose(np.array(drawn(page, "#along-beta")[0]["y"], float), loss[place, :, 2])
        assert plain(value) in plain(body["hovertext"][1][2])
        assert plain(value) in told(page)
        stars = [trace["name"] for trace in drawn(page, ".contours")].count("theta")
        assert stars == (gamma[place] == 0)
        (line,) = (trace for trace in drawn(page, ".contours") if trace["name"] == "trajectory")
        assert np.allclose(line["x"], steps + 0.6 * (2 * steps - gamma[place]))
    assert "not computed yet" in drawn(page, ".contours")[0]["hovertext"][0][0]
    assert seen.complaints == []


def test_a_point_shows_the_density_of_its_eigenvalues(visit, tmp_path):
    metrics = {
        "train_loss": np.ones(1),
        "trace": np.full(1, 7.0),
        "trace_stderr": np.full(1, 0.25),
        "spectrum_nodes": np.array([[[-1.0, 0.0, 9.0], [-0.8, 0.1, 9.0]]]),
        "spectrum_weights": np.array([[[0.1, 0.85, 0.05], [0.1, 0.87, 0.03]]]),
    }
    path = write(tmp_path / "point.h5", np.zeros(1), None, metrics, job=JOB + "metrics: [loss, spectrum]\n")
    seen = visit([read_surface(path)], **DESKTOP)
    names = [trace["name"] for trace in drawn(seen.page, ".density")]
    assert names == ["lower", "standard error", "density"]
    assert not seen.page.locator("#controls").is_visible()
    facts = seen.page.locator(".facts").inner_text()
    assert "trace 7 ± 0.25" in facts
    assert "Gaussian bandwidth 0.05" in facts
    seen.page.locator(".density").click()
    assert "alpha = 0" in told(seen.page)
    assert seen.complaints == []
