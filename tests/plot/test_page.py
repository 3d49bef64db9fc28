"""What a page holds, byte for byte; how it looks and what it does is tested in a browser."""

import base64
import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.plot import page as module
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content, html
from landscape_mpi.surface.training import EpochRecord, Trajectory, joined, write_history
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import JOB, bowl, bowls, coarse, write

HOSTILE = "name: </script><script>alert(1)</script><!-- & \u202e\n"


def unpacked(text, shape=(-1,)):
    return np.frombuffer(base64.b64decode(text), "<f8").reshape(shape)


def only(surface, options=None):
    """What a page of one surface holds of it."""
    return content([surface], options or Options())["surfaces"][0]


@pytest.fixture
def plane(tmp_path):
    return write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA), "test_loss": bowl(ALPHA, BETA) + 1})


def test_numbers_arrive_as_they_are_in_the_file(rectangle):
    held = only(rectangle)
    assert np.array_equal(unpacked(held["alpha"]), ALPHA)
    assert np.array_equal(unpacked(held["beta"]), BETA)
    assert np.array_equal(unpacked(held["values"]["train_loss"], rectangle.shape), bowl(ALPHA, BETA))
    assert held["filled"] is None


def test_results_that_are_no_numbers_stay_what_they_are_and_are_counted(with_gaps):
    held = only(with_gaps)
    stored = unpacked(held["values"]["train_loss"], with_gaps.shape)
    assert stored[1, 2] == np.inf
    assert np.argwhere(np.isnan(stored)).tolist() == [[4, 6], [4, 7]]
    assert "training loss inf at 1 point, NaN at 2 points" in held["facts"]


def test_between_computed_points_of_a_plane_values_are_linear(unfinished):
    held = only(unfinished)
    exact = 4.0 + ALPHA[None, :] + 3 * BETA[:, None]
    assert np.allclose(unpacked(held["filled"]["train_loss"], unfinished.shape), exact)
    assert np.isnan(unpacked(held["values"]["train_loss"])).sum() == unfinished.points - unfinished.done
    assert list(base64.b64decode(held["status"])) == unfinished.status.ravel().tolist()
    assert "20 of 63 points" in held["facts"]


def test_between_computed_points_of_a_line_values_are_linear_and_nothing_is_invented_beyond(make):
    status = np.array([0, 1, 0, 1, 2, 1, 1, 0, 0], np.uint8)
    values = np.array([0, 1, 0, 3, 0, np.nan, 7, 0, 0.0])
    held = only(make({"train_loss": values}, beta=None, status=status))
    filled = unpacked(held["filled"]["train_loss"])
    assert np.array_equal(filled, [np.nan, 1, 2, 3, np.nan, np.nan, 7, np.nan, np.nan], equal_nan=True)


def test_too_few_points_for_an_area_are_shown_alone(make):
    status = np.zeros((7, 9), np.uint8)
    status[3, 3] = 1
    assert only(make({"train_loss": np.ones((7, 9))}, status=status))["filled"] is None


def test_metrics_in_words_losses_first(make):
    loss = bowl(ALPHA, BETA)
    names = ["max_eig", "test_acc", "train_loss_stderr", "test_loss", "train_loss"]
    offered = content([make(dict.fromkeys(names, loss))], Options())["metrics"]
    assert [metric["name"] for metric in offered][:3] == ["train_loss", "test_loss", "test_acc"]
    spread = next(metric for metric in offered if metric["name"] == "train_loss_stderr")
    assert spread == {
        "name": "train_loss_stderr",
        "words": "standard error of the training loss",
        "general": "standard error of the loss",
        "unit": "nats",
        "split": "train",
        "splitWords": "training",
    }


def test_error_bars_in_percent_are_offered_too(make):
    loss = bowl(ALPHA, BETA)
    surface = make({"train_loss": loss, "train_loss_bar": 0.02 * loss, "train_examples": loss * 0 + 100})
    assert "train_loss_relbar" in [metric["name"] for metric in content([surface], Options())["metrics"]]
    assert np.allclose(unpacked(only(surface)["values"]["train_loss_relbar"]), 2)
    assert "95 % error bars ≤ 2 %" in only(surface)["facts"]


@pytest.mark.parametrize("beta", [np.linspace(-1, 1, 3), None], ids=["plane", "line"])
def test_where_rounding_decides_is_told_and_has_a_band_about_theta(make, beta):
    alpha = np.linspace(-1, 1, 5)
    loss = alpha**2 + 0.5 if beta is None else np.add.outer(beta**2, alpha**2) + 0.5
    values = {"train_loss": loss, "train_acc": loss}
    held = only(make(values, alpha=alpha, beta=beta, attributes={"precision_floor": 0.125, "dtype": "bfloat16"}))
    assert held["floors"] == {"train_loss": [0.375, 0.625]}
    assert "rounding in bfloat16 decides where |f - f(0, 0)| < 0.12" in held["facts"]
    assert ("precision floor", "0.125") in [tuple(row) for row in held["provenance"]]
    assert only(make(values, alpha=alpha, beta=beta))["floors"] == {}


def test_only_what_every_surface_has_can_be_chosen(make):
    loss, nowhere = bowl(ALPHA, BETA), np.full((BETA.size, ALPHA.size), np.nan)
    one = make({"train_loss": loss, "test_loss": loss, "train_acc": loss})
    other = make({"train_loss": loss, "test_loss": nowhere, "train_acc": loss + 1}, name="other.h5")
    assert [m["name"] for m in content([one, other], Options())["metrics"]] == ["train_loss", "train_acc"]


def test_the_options_are_what_is_shown_first(rectangle):
    options = Options(metric="train_acc", log=False, low=1.5, high=99, title="mine")
    page = content([rectangle], options)
    assert page["start"] == {"metric": "train_acc", "scale": "linear", "low": "1.5", "high": "99"}
    assert page["title"] == "mine"


def test_provenance_holds_every_attribute_and_the_job(make):
    attributes = {"checkpoint_sha256": "abc123", "versions": '{"torch": "2.0"}', "shard": "3/8", "cosine": 0.125}
    held = only(make({"train_loss": bowl(ALPHA, BETA)}, attributes=attributes))
    rows = dict(map(tuple, held["provenance"]))
    expected = {"checkpoint": "abc123", "versions": "torch 2.0", "shard": "3/8", "cosine": "0.125", "seed": "3"}
    assert expected.items() <= rows.items()
    assert rows["points"].startswith("63 of 63 done")
    assert held["job"] == JOB


def test_the_path_of_training_is_taken_where_a_surface_has_one(rectangle):
    alpha, beta, residual, loss = np.array([[3.0, 2, 0]]) + np.arange(4)[:, None]
    path = Trajectory((alpha, beta), residual, np.array([0, 5, 9]), loss, np.array([math.nan, 0.1, 0.01]))
    held = only(replace(rectangle, trajectory=path))
    (run,) = held["runs"]
    last = {name: unpacked(values)[-1] for name, values in run["columns"].items()}
    assert last == {"alpha": 0, "beta": 1, "residual": 2, "epoch": 9, "loss": 3}
    assert (run["name"], run["colour"]) == ("", "#000000")
    stops = {stop["symbol"]: stop["at"] for stop in run["stops"]}
    assert stops == {"diamond": 1, "square": 0, "circle": 2}
    assert held["facts"][-1] == "square: epoch 0, circle: epoch 9, diamonds: learning rate drops"
    steady = only(replace(rectangle, trajectory=replace(path, lr=np.full(3, 0.1))))
    assert steady["facts"][-1] == "square: epoch 0, circle: epoch 9"
    assert only(rectangle)["runs"] == []


def test_each_run_has_its_own_colour_name_and_marks(rectangle):
    nothing = np.full(3, math.nan)
    run = Trajectory((np.array([1.0, 0.5, 0]), np.array([0.3, 0.2, 0])), nothing, np.array([0, 5, 9]), nothing, nothing)
    other = replace(run, coordinates=(-run.alpha, run.beta), lr=np.array([math.nan, 0.1, 0.01]))
    held = only(replace(rectangle, trajectory=joined([run, other], ["sgd", "<i>\u202eadam"])))
    assert [each["name"] for each in held["runs"]] == ["sgd", r"<i>\u202eadam"]
    assert len({each["colour"] for each in held["runs"]}) == 2
    for each, alpha, symbols in zip(
        held["runs"], (run.alpha, other.alpha), ("square circle", "diamond square circle"), strict=True
    ):
        assert np.array_equal(unpacked(each["columns"]["alpha"]), alpha)
        assert [stop["symbol"] for stop in each["stops"]] == symbols.split()
    first, second = (next(stop for stop in each["stops"] if stop["symbol"] == "circle") for each in held["runs"])
    assert second["radius"] > first["radius"]  # both end at theta*
    assert second["below"] > first["below"]
    assert held["facts"][-1] == "square: start, circle: end, diamonds: learning rate drops"


def test_captions_take_the_place_of_the_titles_of_surfaces(rectangle):
    page = content([rectangle, rectangle], Options(captions=("batch 32", r"a \$ b"), title="both"))
    assert [surface["title"] for surface in page["surfaces"]] == ["batch 32", "a $ b"]
    assert page["title"] == "both"


def test_nothing_from_a_file_can_end_the_data_or_begin_a_script(make):
    surface = make(
        {"train_loss": bowl(ALPHA, BETA), "<script>alert(3)<_loss": bowl(ALPHA, BETA)},
        job=HOSTILE + JOB.replace("resnet56", "'<b>&</b>'"),
        attributes={"</script><script>alert(4)": "<img src=x onerror=alert(5)>"},
        name="<script>alert(6)</script>".replace("/", "") + ".h5",
    )
    page = html(content([surface], Options(title="</title><script>alert(2)</script>")))
    assert page.count("<script") == page.count("</script>") == 3
    assert "alert" not in re.sub(r'<script id="data".*?</script>', "", page).replace(_plotly(), "")
    held = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page)[1])
    assert held["surfaces"][0]["job"].startswith("name: </script><script>alert(1)</script><!-- & \\u202e\n")
    assert held["surfaces"][0]["title"] == "<b>&</b>, no shortcuts"


def _plotly():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def test_the_same_surface_gives_the_same_page(plane, tmp_path, capsys):
    pages = [tmp_path / "a.html", tmp_path / "b.HTM"]
    for page in pages:
        assert main([str(plane), "--html", str(page), "--log"]) == 0
    assert capsys.readouterr().out.split() == list(map(str, pages))
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert str(tmp_path).encode() not in pages[0].read_bytes()


def test_the_page_may_load_nothing(plane, tmp_path):
    assert main([str(plane), "--html", str(tmp_path / "p.html")]) == 0
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', (tmp_path / "p.html").read_text())[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.slow
def test_mistakes_are_one_sentence_and_write_nothing(plane, tmp_path, capsys, monkeypatch):
    line = write(tmp_path / "line.h5", ALPHA, None, {"train_loss": ALPHA**2 + 1})
    strip = write(tmp_path / "strip.h5", ALPHA, BETA[:1], {"train_loss": bowl(ALPHA, BETA[:1])})
    history = tmp_path / "history.h5"
    write_history(history, [EpochRecord(0, 1.0, 50.0, 1.0, 50.0, 0.1, 2.0)])
    (tmp_path / "folder.html").mkdir()
    before = set(tmp_path.iterdir())
    page = ["--html", tmp_path / "p.html"]
    for arguments, sentence in [
        ([plane, "--html", tmp_path / "p.pdf"], "found the ending '.pdf'; expected one of .html, .htm."),
        ([plane, "--html", tmp_path / "absent" / "p.html"], "there is no folder"),
        ([plane, "--html", tmp_path / "folder.html"], "folder.html: found a folder; expected the name of a file"),
        ([plane, *page, "--kind", "heat"], "--kind: --html writes a page, which has no use for it"),
        ([plane, *page, "--levels", "1,2"], "--levels: --html writes a page"),
        (
            [plane, *page, "--caption", "a", "--caption", "b"],
            "--caption: found 2 for 1 surface; expected one per surface",
        ),
        ([plane, *page, "--fps", "5"], "--fps: is for films; expected --movie as well"),
        ([plane, *page, "--metric", "train_los"], "did you mean train_loss?"),
        ([plane, *page, "--vmin", "1e9"], "--vmin"),
        ([history, *page], "/history.h5 is a training history; expected surfaces"),
        ([plane, line, *page], "line.h5: lines and planes do not mix on a page"),
        ([strip, *page], "strip.h5: 9 x 1 points have no extent"),
        ([plane] * 9 + page, "found 9 surfaces; expected at most 8"),
    ]:
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert sentence in err
        assert (out, err.count("\n")) == ("", 1)
    monkeypatch.setattr(module, "MOST_VALUES", 100)
    assert main([str(argument) for argument in [plane, *page]]) == 2
    assert "hold 126 values, too many for a browser; expected at most 100" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_without_plotly_a_sentence_says_how_to_get_it(plane, tmp_path):
    program = (
        "import sys; sys.modules['plotly'] = None; from landscape_mpi.plot.__main__ import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, str(plane), "--html", str(tmp_path / "p.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("landscape-plot: --html: the package plotly is not installed; install it with: pip")
    assert not (tmp_path / "p.html").exists()


def test_a_surface_without_a_job_has_the_name_of_its_file(make):
    held = only(make({"train_loss": bowl(ALPHA, BETA)}, job=None))
    assert (held["title"], held["job"], held["betaLabel"]) == ("made", None, "β (η direction)")


GAMMA = np.array([-0.5, 0.0, 0.25, 1.0])


def test_a_volume_is_there_once_and_whole(make):
    loss = bowls(ALPHA, BETA, GAMMA)
    held = only(make({"train_loss": loss, "test_loss": loss + 1}, gamma=GAMMA))
    assert np.array_equal(unpacked(held["gamma"]), GAMMA)
    assert np.array_equal(unpacked(held["values"]["train_loss"], loss.shape), loss)
    assert np.array_equal(unpacked(held["values"]["test_loss"], loss.shape), loss + 1)
    assert len(base64.b64decode(held["status"])) == loss.size
    assert held["filled"] is None


def test_each_plane_of_an_unfinished_volume_is_interpolated_by_itself(make):
    status = np.stack([coarse((BETA.size, ALPHA.size), 2)] * 3)
    status[1] = 0
    status[1, 3, 3] = 1
    exact = 4.0 + ALPHA[None, None, :] + 3 * BETA[None, :, None] + GAMMA[:3, None, None]
    held = only(make({"train_loss": np.where(status == 1, exact, np.nan)}, gamma=GAMMA[:3], status=status))
    filled = unpacked(held["filled"]["train_loss"], exact.shape)
    assert np.allclose(filled[[0, 2]], exact[[0, 2]])
    assert np.argwhere(np.isfinite(filled[1])).tolist() == [[3, 3]]  # spans no area


def test_of_a_volume_a_page_can_have_one_plane(make, tmp_path):
    loss = bowls(ALPHA, BETA, GAMMA)
    volume = make({"train_loss": loss}, gamma=GAMMA)
    flat = only(volume.at(1))
    assert flat["gamma"] is None
    assert not flat["isAtZero"]
    assert "plane at \N{GREEK SMALL LETTER GAMMA} = 1" in flat["facts"]
    plane = make({"train_loss": loss[0]}, name="plane.h5")
    with pytest.raises(UserError, match="planes and volumes do not mix on a page"):
        content([volume, plane], Options())
    # the command shows the plane at 0 beside another plane
    page = tmp_path / "p.html"
    assert main([str(volume.path), str(plane.path), "--html", str(page)]) == 0
    held = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text())[1])
    assert np.array_equal(unpacked(held["surfaces"][0]["values"]["train_loss"], loss.shape[1:]), loss[1])


def test_the_page_of_a_volume_has_the_path_of_a_run_on_each_plane(make):
    """Principal components are orthogonal: a path keeps its alpha and beta, and is as far off as its gamma."""
    steps = np.arange(3.0)
    path = Trajectory((steps, -steps, steps), 0 * steps, np.array([0, 5, 9]), steps, steps, (0.5, 0.3, 0.1))
    lengths = dict.fromkeys(("delta_norm", "eta_norm", "zeta_norm"), 2.0)
    angles = dict.fromkeys(("cosine", "cosine_13", "cosine_23"), 0.0)
    volume = make({"train_loss": bowls(ALPHA, BETA, GAMMA)}, gamma=GAMMA, attributes={**lengths, **angles})
    held = only(replace(volume, trajectory=path))
    assert len(held["layers"]) == len(GAMMA)
    for gamma, (run,) in zip(GAMMA, held["layers"], strict=True):
        columns = {name: unpacked(values, (3,)) for name, values in run["columns"].items()}
        np.testing.assert_allclose(columns["alpha"], steps, atol=1e-12)
        np.testing.assert_allclose(columns["beta"], -steps, atol=1e-12)
        np.testing.assert_allclose(columns["residual"], 2 * np.abs(steps - gamma), atol=1e-12)
    assert held["runs"] == held["layers"][list(GAMMA).index(0)]
    assert held["facts"] == [*only(volume)["facts"], "square: epoch 0, circle: epoch 9"]
    assert only(volume)["layers"] == [[]] * len(GAMMA)
