"""Planes of volumes as figures and films: `--at`, the plane at 0, and frames along gamma."""

from dataclasses import replace

import numpy as np
import pytest

from landscape_mpi.api import open_surface
from landscape_mpi.errors import UserError
from landscape_mpi.plot import run
from landscape_mpi.plot.__main__ import main
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.film import compose_film
from landscape_mpi.plot.options import Options
from landscape_mpi.surface.read import read_surface
from landscape_mpi.surface.training import EpochRecord, Trajectory, write_history
from plot.made_surfaces import bowl, bowls, write

ALPHA, BETA, GAMMA = np.linspace(-0.5, 1.1, 9), np.linspace(-1.0, 0.4, 7), np.array([-0.5, 0.0, 0.25, 1.0])
LOSS = bowls(ALPHA, BETA, GAMMA)
STAR, MINUS = "trained", "\N{MINUS SIGN}"


@pytest.fixture
def volume(tmp_path):
    return write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": LOSS, "test_loss": LOSS + 1}, gamma=GAMMA)


@pytest.fixture
def plane(tmp_path):
    return write(tmp_path / "s.h5", ALPHA, BETA, {"train_loss": bowl(ALPHA, BETA)})


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved, by path."""
    figures = {}
    monkeypatch.setattr(run, "save", lambda figure, path: figures.update({path: figure}))
    return figures


def cells(figure):
    """The values of each panel of a heat map, flat."""
    panels = [axes for axes in figure.axes if axes.get_title()]
    meshes = [next(artist for artist in axes.collections if artist.get_array() is not None) for axes in panels]
    return [np.asarray(mesh.get_array()).ravel() for mesh in meshes]


def caption(figure):
    """What stands below the panels, and above each."""
    return figure.get_supxlabel() + " ".join(text.get_text() for axes in figure.axes for text in axes.texts)


def stars(figure):
    return sum(artist.get_gid() == STAR for axes in figure.axes for artist in axes.lines)


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize(
    ("flags", "place", "name"),
    [([], 1, "gamma0"), (["--at", "gamma=0.3"], 2, "gamma0.25"), (["--at", "gamma=-0.5"], 0, "gamma-0.5")],
)
def test_the_nearest_plane_is_drawn_and_told(volume, drawn, flags, place, name):
    assert main([str(volume), *flags, "--kind", "heat"]) == 0
    figure = drawn[volume.with_name(f"v_{name}_train_loss_heat.png")]
    np.testing.assert_array_equal(cells(figure), [LOSS[place].ravel()])
    assert f"plane at \N{GREEK SMALL LETTER GAMMA} = {GAMMA[place]:g}".replace("-", MINUS) in caption(figure)
    assert stars(figure) == (GAMMA[place] == 0)  # theta* is on no other plane


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize("kind", ["contour", "filled", "surface"])
def test_a_plane_of_a_volume_has_every_kind(volume, kind):
    planes = [read_surface(volume).at(gamma) for gamma in (0, 1)]
    figure = compose(planes, Options(kind=kind))
    assert all(
        words in caption(figure)
        for words in ("plane at \N{GREEK SMALL LETTER GAMMA} = 0", "plane at \N{GREEK SMALL LETTER GAMMA} = 1")
    )
    assert stars(figure) == 1


@pytest.mark.usefixtures("draft")
@pytest.mark.parametrize("kind", ["heat", "surface"])
def test_the_path_of_a_run_is_drawn_on_every_slice(volume, kind):
    """Principal components are orthogonal: a path has its alpha and beta there, and lies as far off as its gamma."""
    steps, unknown = np.linspace(0.4, 0, 5), np.full(5, np.nan)
    run = Trajectory((steps, -steps, 2 * steps), 0 * steps, np.arange(5), unknown, unknown, (0.5, 0.3, 0.1))
    lengths = dict.fromkeys(("delta_norm", "eta_norm", "zeta_norm"), 2.0)
    angles = dict.fromkeys(("cosine", "cosine_13", "cosine_23"), 0.0)
    surface = replace(read_surface(volume), trajectory=run, attributes={"seed": 3, **lengths, **angles})
    figure = compose([surface.at(1)], Options(kind=kind))
    axes = next(axes for axes in figure.axes if axes.get_title())
    paths = [artist for artist in axes.get_children() if artist.get_gid() == "path"]
    assert len(paths) == 1
    if kind == "heat":
        np.testing.assert_allclose(paths[0].get_segments()[0], np.stack([steps, -steps], axis=1), atol=1e-12)
    assert "path of 5 checkpoints: up to 1.13 from θ* in the plane, 2 off it" in caption(figure)


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_each_of_several_volumes_is_cut(volume, tmp_path, drawn, plane):
    other = write(tmp_path / "w.h5", ALPHA, BETA, {"train_loss": 2 * LOSS[:3]}, gamma=GAMMA[:3])
    assert main([str(volume), str(other), "--kind", "heat", "--at", "gamma=0.2"]) == 0
    figure = drawn[tmp_path / "v+w_gamma0.25_train_loss_heat.png"]
    np.testing.assert_array_equal(cells(figure), [LOSS[2].ravel(), 2 * LOSS[2].ravel()])
    assert main([str(volume), str(plane), "--kind", "heat"]) == 0
    figure = drawn[tmp_path / "v+s_gamma0_train_loss_heat.png"]
    np.testing.assert_array_equal(cells(figure), [LOSS[1].ravel(), bowl(ALPHA, BETA).ravel()])


@pytest.mark.usefixtures("draft")
def test_a_volume_that_does_not_reach_0_is_drawn_where_it_is_nearest(tmp_path):
    path = write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": LOSS[2:]}, gamma=GAMMA[2:])
    volume = read_surface(path)
    figure = run.draw_inline([volume], Options(kind="heat"))
    np.testing.assert_array_equal(cells(figure), [LOSS[2].ravel()])
    figure = run.draw_inline([volume.at(1)], Options(kind="heat"))
    np.testing.assert_array_equal(cells(figure), [LOSS[3].ravel()])


@pytest.mark.slow
@pytest.mark.usefixtures("draft")
def test_a_film_goes_through_gamma(volume, monkeypatch):
    films = []
    monkeypatch.setattr(run, "save_film", lambda film, *_: films.append(film))
    assert main([str(volume), "--movie", "f.gif", "--kind", "heat"]) == 0
    assert main([str(volume), "--movie", "f.gif", "--at", "gamma=1"]) == 0  # one plane, which turns
    through, turning = films
    np.testing.assert_array_equal([field.values for field in through.fields], LOSS)
    assert (through.scale.low, through.scale.high) == (LOSS.min(), LOSS.max())
    assert list(through.texts.titles) == ["ResNet-56, no shortcuts"] * 4
    assert [[fact.replace(MINUS, "-") for fact in own] for own in through.texts.own] == [
        [f"plane at \N{GREEK SMALL LETTER GAMMA} = {g}"] for g in ("-0.5", "0", "0.25", "1")
    ]
    np.testing.assert_array_equal(turning.fields[0].values, LOSS[3])
    assert len(turning.fields) == 1


@pytest.mark.usefixtures("draft")
def test_planes_of_a_volume_that_are_not_begun_are_no_frames(tmp_path):
    status = np.ones(LOSS.shape, np.uint8)
    status[2] = 0
    path = write(tmp_path / "v.h5", ALPHA, BETA, {"train_loss": LOSS}, gamma=GAMMA, status=status)
    volume = read_surface(path)
    film = compose_film(run.along_gamma(volume), Options())
    assert [field.surface.gamma for field in film.fields] == [-0.5, 0, 1]


@pytest.mark.slow
def test_mistakes_are_one_sentence_and_write_nothing(volume, plane, tmp_path, capsys):
    line = write(tmp_path / "line.h5", ALPHA, None, {"train_loss": ALPHA**2 + 1})
    history = tmp_path / "history.h5"
    write_history(history, [EpochRecord(0, 1.0, 50.0, 1.0, 50.0, 0.1, 2.0)])
    status = np.ones(LOSS.shape, np.uint8)
    status[1] = 0
    part = write(tmp_path / "part.h5", ALPHA, BETA, {"train_loss": LOSS}, gamma=GAMMA, status=status)
    before = set(tmp_path.iterdir())
    expected = "expected gamma=NUMBER (such as gamma=0.5)."
    for arguments, sentence in [
        ([plane, "--at", "gamma=0"], "--at: {}/s.h5 is a plane; expected a volume."),
        ([line, "--at", "gamma=0"], "--at: {}/line.h5 is a line; expected a volume."),
        ([volume, plane, "--at", "gamma=0"], "--at: {}/s.h5 is a plane; expected a volume."),
        ([history, "--at", "gamma=0"], "--at: {}/history.h5 is a training history; expected surfaces."),
        ([volume, "--at", "beta=0"], f"--at: found 'beta=0'; {expected}"),
        ([volume, "--at", "0.5"], f"--at: found '0.5'; {expected}"),
        ([volume, "--at", "gamma=x"], f"--at: found 'gamma=x'; {expected}"),
        ([volume, "--at", "gamma=nan"], f"--at: found 'gamma=nan'; {expected}"),
        ([volume, "--at", "gamma=1.5"], "--at: {}/v.h5: found gamma = 1.5; expected -0.5 to 1."),
        ([volume, "--trajectory", "t.h5"], "--trajectory: {}/v.h5 is a volume; expected a plane"),
        ([part], "part.h5: nothing to draw yet at gamma = 0: 0 of 63 points are done"),
    ]:
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert sentence.format(tmp_path) in err
        assert (out, err.count("\n")) == ("", 1)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("draft")
def test_in_python_a_plane_is_drawn_into_a_file_and_not_saved(volume, drawn, tmp_path):
    plane = open_surface(volume).at(gamma=0.3)
    plane.plot("heat", output=tmp_path / "plane.png")
    (figure,) = drawn.values()
    np.testing.assert_array_equal(cells(figure)[0], LOSS[2].ravel())
    with pytest.raises(UserError, match=r"save: this is a plane of a volume.*; save the volume itself"):
        plane.save(tmp_path / "plane.h5")
    assert not (tmp_path / "plane.h5").exists()
    open_surface(volume).save(tmp_path / "copy.h5")
    assert (tmp_path / "copy.h5").read_bytes() == volume.read_bytes()
