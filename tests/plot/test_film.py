"""Films: a frame per surface, on one scale in one layout; one surface turns around."""

import json
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.film import TURN, compose_film, save_film
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.render import Frames
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.training import EpochRecord, write_history
from plot.made_surfaces import JOB, bowl, coarse, write

pytestmark = pytest.mark.filterwarnings("error")

AXIS = np.linspace(-1, 1, 7)


@pytest.fixture
def epochs(tmp_path):
    """Three checkpoints of a training run, ever higher."""
    return [
        write(
            tmp_path / f"e{epoch}.h5",
            AXIS,
            AXIS,
            {"train_loss": bowl(AXIS, AXIS) + epoch},
            job=JOB.replace("resnet56.t7", f"epoch-{epoch:04d}.safetensors"),
        )
        for epoch in (0, 2, 30)
    ]


def film(paths, **options):
    return compose_film([read_surface(path) for path in paths], Options(**options))


def frames(path):
    """Return the frames of a film, uint8 [height, width, 3] each."""
    with Image.open(path) as image:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contour", pytest.param("surface", marks=pytest.mark.slow)])
def test_there_is_a_frame_for_each_surface(epochs, tmp_path, capsys, kind):
    target = tmp_path / "film.gif"
    assert run(capsys, *epochs, "--kind", kind, "--movie", target) == (0, f"{target}\n", "")
    shown = frames(target)
    assert len(shown) == 3
    assert len({frame.shape for frame in shown}) == 1
    assert shown[0].shape[1] == 680
    assert not np.array_equal(shown[0], shown[1])
    assert not np.array_equal(shown[1], shown[2])
    with Image.open(target) as image:
        assert (image.info["duration"], image.info["loop"]) == (250, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e0.h5", "e2.h5", "e30.h5", "film.gif"]


@pytest.mark.slow
def test_frames_a_second(epochs, tmp_path, capsys):
    assert run(capsys, *epochs[:2], "--kind", "heat", "--movie", tmp_path / "f.gif", "--fps", 10)[0] == 0
    with Image.open(tmp_path / "f.gif") as image:
        assert image.info["duration"] == 100


@pytest.mark.slow
def test_the_same_surfaces_give_the_same_film(epochs, tmp_path, capsys):
    targets = [tmp_path / "a.gif", tmp_path / "b.gif"]
    for target in targets:
        assert run(capsys, *epochs[:2], "--kind", "heat", "--movie", target)[0] == 0
    assert targets[0].read_bytes() == targets[1].read_bytes()


@pytest.mark.slow
def test_all_frames_are_on_one_colour_scale(tmp_path):
    paths = [write(tmp_path / f"{v}.h5", AXIS, AXIS, {"train_loss": np.full((7, 7), v)}) for v in (1.0, 2.0, 5.0)]
    made = film(paths, kind="heat")
    assert (made.scale.low, made.scale.high) == (1, 5)
    save_film(made, tmp_path / "f.gif", 4)
    shown = frames(tmp_path / "f.gif")
    for frame, value in zip(shown, (1.0, 2.0, 5.0), strict=True):
        height, width, _ = frame.shape
        wanted = 255 * np.array(colormaps["viridis"]((value - 1) / 4)[:3])
        np.testing.assert_allclose(frame[height // 4, width // 4], wanted, atol=6)
    # nothing but the plane and its title changes: not the colour bar, not the caption
    changed = np.any(np.abs(shown[0].astype(int) - shown[2]) > 30, axis=(0, 2))
    assert not changed[int(0.85 * changed.size) :].any()


def test_a_narrow_minimum_keeps_its_colour(tmp_path):
    """Of a lit landscape of reds and yellows, in light and shadow."""
    light, hue = np.meshgrid(np.linspace(0.3, 1, 300), np.linspace(0, 1, 400), indexing="ij")
    hills = np.stack([light * 250, light * (60 + 180 * hue), light * (60 + 120 * hue)], axis=-1)
    pictures = [np.dstack([hills, np.full_like(light, 255)]).astype(np.uint8) for _ in range(2)]
    for picture, column in zip(pictures, (30, 300), strict=True):
        picture[:20] = 255
        picture[70:76, column : column + 6, :3] = (32, 48, 95)
    figure = Figure(figsize=(4.001 / 2, 3.001 / 2), dpi=200)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.set_axis_off()
    save_film(Frames(figure, panel.imshow(pictures[0], aspect="auto"), pictures, ["", ""]), tmp_path / "f.gif", 4)
    for frame, picture in zip(frames(tmp_path / "f.gif"), pictures, strict=True):
        assert np.abs(frame.astype(int) - picture[..., :3]).max() <= 20
        assert (frame[:18] == 255).all()


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_frames_are_named_after_their_epochs(epochs):
    network = "ResNet-56, no shortcuts"
    assert film(epochs).texts.titles == [f"{network}, epoch {epoch}" for epoch in (0, 2, 30)]
    assert film(epochs, title="ours").texts.titles == [f"ours, epoch {epoch}" for epoch in (0, 2, 30)]


@pytest.mark.usefixtures("draft")
def test_frames_of_other_checkpoints_are_named_after_their_files(tmp_path):
    paths = [write(tmp_path / f"{name}.h5", AXIS, AXIS, {"train_loss": bowl(AXIS, AXIS)}) for name in "ab"]
    assert film(paths).texts.titles == ["ResNet-56, no shortcuts (a)", "ResNet-56, no shortcuts (b)"]
    assert film(paths, title="ours").texts.titles == ["ours, a", "ours, b"]


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_captions_take_the_place_of_the_names_of_frames(epochs):
    assert film(epochs, captions=("a", "b", "c")).texts.titles == ["a", "b", "c"]
    assert film(epochs, captions=("a", "b", "c"), title="ours").texts.titles == ["ours, a", "ours, b", "ours, c"]
    with pytest.raises(UserError, match="--caption: found 1 for 3 frames; expected one per frame, in order"):
        film(epochs, captions=("a",))


@pytest.mark.slow
def test_each_frame_shows_its_own_surface_in_the_layout_of_all(epochs):
    made = film(epochs, kind="contour")
    places, titles = set(), []
    for figure in made.frames():
        (lines,) = [one for one in made.panel.collections if hasattr(one, "levels")]
        assert tuple(lines.levels) == made.scale.levels
        places.add((made.panel.get_position().bounds, figure.get_size_inches().tobytes()))
        titles.append(made.panel.get_title())
    assert len(places) == 1
    assert titles == made.texts.titles
    assert len(figure.axes) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_a_frame_says_what_holds_for_it_alone(epochs, tmp_path):
    late = write(tmp_path / "late.h5", AXIS, AXIS, {"train_loss": bowl(AXIS, AXIS)}, status=coarse((7, 7), 2), job=JOB)
    made = film([*epochs, late])
    assert [list(facts) for facts in made.texts.own] == [[], [], [], ["16 of 49 points"]]
    notes = [[text.get_text() for text in made.panel.texts] for _ in made.frames()]
    assert ["16 of 49 points" in texts for texts in notes] == [False, False, False, True]


@pytest.mark.usefixtures("draft")
def test_one_surface_turns_around(epochs, tmp_path):
    made = film(epochs[:1])
    angles = [made.panel.azim for _ in made.frames()]
    assert len(angles) == TURN
    np.testing.assert_allclose(np.diff(angles), 360 / TURN)
    assert angles[0] == -58
    assert film(epochs[:1], kind="surface").kind == made.kind


FFMPEG = """#!{python}
import json, pathlib, sys
arguments = sys.argv[1:]
data = sys.stdin.buffer.read()
pathlib.Path({log!r}).write_text(json.dumps([arguments, len(data)]))
pathlib.Path(arguments[-1]).write_bytes(b"film")
sys.exit({code})
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """Put a stand-in for ffmpeg into the path: it counts what it is given, and ends with a code."""

    def put(code):
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "ffmpeg"
        program.write_text(FFMPEG.format(python=sys.executable, log=str(tmp_path / "log"), code=code))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return put


@pytest.mark.slow
def test_ffmpeg_gets_every_frame_of_an_mp4(epochs, tmp_path, capsys, ffmpeg):
    ffmpeg(0)
    target = tmp_path / "film.mp4"
    assert run(capsys, *epochs, "--kind", "heat", "--movie", target, "--fps", 7) == (0, f"{target}\n", "")
    assert target.read_bytes() == b"film"
    arguments, size = json.loads((tmp_path / "log").read_text())
    width, height = map(int, arguments[arguments.index("-s") + 1].split("x"))
    assert size == 3 * 4 * width * height
    assert (width % 2, height % 2) == (0, 0)
    assert arguments[arguments.index("-framerate") + 1] == "7"


@pytest.mark.slow
def test_an_mp4_that_ffmpeg_cannot_write_is_one_sentence(epochs, tmp_path, capsys, ffmpeg):
    ffmpeg(3)
    code, out, err = run(capsys, *epochs, "--kind", "heat", "--movie", tmp_path / "film.mp4")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "film.mp4: cannot be written (ffmpeg ended with code 3)" in err
    assert not [path for path in tmp_path.iterdir() if "film" in path.name]


@pytest.mark.slow
def test_mistakes_are_one_sentence_and_write_nothing(epochs, tmp_path, capsys, monkeypatch):
    line = write(tmp_path / "line.h5", AXIS, None, {"train_loss": AXIS**2})
    history = tmp_path / "history.h5"
    write_history(history, [EpochRecord(0, 1.0, 50.0, 1.0, 50.0, 0.1, 2.0)])
    (tmp_path / "folder.gif").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    before = set(tmp_path.rglob("*"))
    gif = ["--movie", tmp_path / "f.gif"]
    for arguments, sentence in [
        ([*epochs, "--movie", tmp_path / "f.avi"], "--movie: {0}/f.avi: found the ending '.avi'; expected one of .gif"),
        ([*epochs, "--movie", tmp_path / "no" / "f.gif"], "--movie: {0}/no/f.gif: there is no folder"),
        ([*epochs, "--movie", tmp_path / "f.mp4"], "an .mp4 needs the program ffmpeg, found none"),
        ([*epochs, "--movie", tmp_path / "folder.gif"], "folder.gif: found a folder; expected the name of a file"),
        (
            [*epochs, *gif, "-o", tmp_path / "f.png"],
            "-o, --movie: expected one of them; run landscape-plot once for each.",
        ),
        ([*epochs, *gif, "--fps", "0"], "--fps: found '0'; expected 1 to 50 frames per second"),
        ([*epochs, "--fps", "5"], "--fps: is for films; expected --movie as well."),
        ([line, *gif], "line.h5 is a line; expected planes."),
        ([line, line, *gif], "line.h5 is a line; expected planes."),
        ([epochs[0], line, *gif], "line.h5: found a line of 7 points, which --kind contour cannot draw"),
        ([epochs[0], *gif, "--kind", "contour"], "one surface has nothing to move in --kind contour"),
        ([*epochs, *gif, "--kind", "heat", "--levels", "1,2"], "--levels: --kind heat has no contours"),
        ([*epochs, *gif, "--title", "$\\broken{$"], "--title: found"),
        ([history, *gif], "history.h5 is a training history; expected surfaces."),
    ]:
        code, out, err = run(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert sentence.format(tmp_path) in err
    assert set(tmp_path.rglob("*")) == before
