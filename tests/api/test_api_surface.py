"""The surface that a call returns: arrays, numbers, figures and files."""

import base64
import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import landscape_mpi
from landscape_mpi import UserError
from landscape_mpi.surface.status import describe
from support import tiny
from support.jobs import results


@pytest.fixture(scope="module")
def plane():
    torch.manual_seed(0)
    data = {split: tiny.data(None, split) for split in ("train", "test")}
    return landscape_mpi.sweep(tiny.network(), "cross_entropy", data, grid=(7, 5), quiet=True)


@pytest.fixture(scope="module")
def line():
    torch.manual_seed(0)
    grid = {"alpha": [-1, 1, 9]}
    return landscape_mpi.sweep(tiny.network(), "cross_entropy", tiny.data(None, "train"), grid=grid, quiet=True)


@pytest.mark.slow
def test_it_says_what_it_is_in_a_line(plane, line):
    assert repr(plane) == (
        "Surface(plane of 5 x 7 points: test_acc, test_loss, train_acc, train_loss; 35 of 35 done (complete))"
    )
    assert repr(line).startswith("Surface(line of 9 points: ")


def test_arrays_by_split(plane):
    assert np.array_equal(plane.loss(), plane.metrics["train_loss"])
    assert np.array_equal(plane.accuracy("test"), plane.metrics["test_acc"])
    assert (plane.path, plane.beta.shape, plane.alpha.shape) == (None, (5,), (7,))
    with pytest.raises(UserError, match="found no valid_loss in the surface; expected one of test_acc, "):
        plane.loss("valid")


def test_sharpness_is_what_info_says(plane, tmp_path):
    saved = plane.save(tmp_path / "s.h5")
    said = re.search(r"curvature, beta +(\S+) +(\S+)", describe(saved.path))
    assert [f"{plane.sharpness(split).curvature_beta:.6g}" for split in ("test", "train")] == list(said.groups())


def test_saved_and_opened_it_is_the_same(plane, tmp_path):
    saved = plane.save(tmp_path / "s.h5")
    opened = landscape_mpi.open(tmp_path / "s.h5")
    assert saved.path == opened.path == tmp_path / "s.h5"
    assert results(opened.save(tmp_path / "again.h5").path) == results(saved.path)
    assert np.array_equal(opened.loss("test"), plane.loss("test"))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["again.h5", "s.h5"]
    with pytest.raises(UserError, match="cannot be written"):
        plane.save(tmp_path / "none" / "s.h5")


def test_the_file_says_that_it_is_from_python(plane, tmp_path):
    text = describe(plane.save(tmp_path / "s.h5").path)
    assert "| # From Python: landscape_mpi.sweep(...) was given the network, the data and the loss." in text
    assert "torch.nn.modules.container:Sequential" in text
    assert "/tmp" not in plane.found.job


@pytest.mark.slow
def test_xarray_has_named_axes(plane, line):
    dataset = plane.to_xarray()
    assert dataset["train_loss"].dims == ("beta", "alpha")
    assert float(dataset["train_loss"].sel(alpha=0, beta=0)) == plane.loss()[2, 3]
    assert line.to_xarray()["train_acc"].dims == ("alpha",)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["contour", "filled", "heat", "surface"])
def test_planes_are_drawn_as_the_command_draws_them(plane, kind):
    figure = plane.plot(kind=kind, log=True, title="A title")
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_title() == "A title"


@pytest.mark.slow
def test_a_page_shows_the_figure(line):
    page = line.plot()._repr_html_()
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    assert picture.startswith(b"\x89PNG")
    assert page.endswith('alt="Sequential">')


@pytest.mark.slow
def test_directions_that_were_given_are_said_to_be():
    plane = ({"0.weight": torch.ones(8, 4)},)
    surface = landscape_mpi.sweep(tiny.network(), "cross_entropy", tiny.data(None, "train"), plane, 3, quiet=True)
    figure = surface.plot()
    assert any(text.get_text().startswith("directions given") for text in figure.texts)
    assert figure.axes[0].get_xlabel() == "\N{GREEK SMALL LETTER ALPHA} (δ direction)"


@pytest.mark.slow
def test_several_surfaces_are_panels_of_one_figure(plane, tmp_path):
    figure = plane.plot(plane, caption=["one", "two"], levels=[1.0, 1.2], vmin=0.5, output=tmp_path / "f.png")
    assert [axes.get_title() for axes in figure.axes][:2] == ["one", "two"]
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 1000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "line"}, 'which kind="line" cannot draw; expected kind="contour"'),
        ({"kind": "hat"}, "^kind: found 'hat'; expected one of contour, filled, heat, surface, line, density"),
        ({"kind": "heat", "levels": [1, 2]}, 'levels: kind="heat" has no contours'),
        ({"levels": "2,1"}, "^levels: found '2,1'"),
        ({"metric": "train_los"}, "train_los"),
        ({"caption": ["a", "b"]}, "^caption: found 2 for 1 panel"),
        ({"output": "figure.gif"}, "found the ending '.gif'; expected one of .png, .pdf, .svg"),
    ],
)
def test_a_mistake_is_a_sentence_in_the_words_of_the_call(plane, options, words):
    with pytest.raises(UserError, match=words):
        plane.plot(**options)


@pytest.mark.slow
def test_the_kind_may_stand_at_the_first_place(plane):
    assert plane.plot("surface").axes[0].name == "3d"
    assert len(plane.plot("heat", plane).axes) == 3
    for arguments, options, sentence in (
        (("heat",), {"kind": "line"}, "kind: found 'heat' and 'line'; expected one of them"),
        ((3,), {}, "plot: found a int; expected surfaces"),
        (("heat", "train_loss"), {}, "plot: found a str; expected surfaces"),
    ):
        with pytest.raises(UserError, match=sentence):
            plane.plot(*arguments, **options)
