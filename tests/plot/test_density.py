"""Figures of spectra: the density at a point, along a line, and what the options make of them."""

from base64 import b64decode

import numpy as np
import pytest
from made_surfaces import JOB, write

from landscape_mpi.api import open_surface
from landscape_mpi.errors import UserError
from landscape_mpi.plot.__main__ import main as plot
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.page import content
from landscape_mpi.surface import read_surface

NODES = np.array([[-1.0, 0.0, 9.0], [-0.8, 0.1, 9.0]])
WEIGHTS = np.array([[0.1, 0.85, 0.05], [0.1, 0.87, 0.03]])
SPECTRUM = "metrics: [loss, spectrum]\nhessian: {images: 100, probes: 2, steps: 3}\n"


def made(path, alpha, beta=None, status=None):
    """A surface with the same spectrum at every point, stretched by 1 + alpha^2."""
    shape = (len(alpha),) if beta is None else (len(beta), len(alpha))
    stretch = np.broadcast_to(1 + np.array(alpha) ** 2, shape)[..., None, None]
    metrics = {
        "train_loss": np.ones(shape),
        "trace": 7.0 * stretch[..., 0, 0],
        "trace_stderr": np.full(shape, 0.25),
        "spectrum_nodes": NODES * stretch,
        "spectrum_weights": np.broadcast_to(WEIGHTS, (*shape, 2, 3)),
    }
    attributes = {"hessian_parameters": 1000, "train_size": 500}
    write(path, alpha, beta, metrics, status=status, job=JOB + SPECTRUM, attributes=attributes)
    return read_surface(path)


@pytest.fixture
def line(tmp_path):
    """A line of 5 points, of which one is not done."""
    return made(tmp_path / "line.h5", np.linspace(-1, 1, 5), status=np.array([1, 0, 1, 1, 1], np.uint8))


def caption(figure):
    return " ".join(figure._supxlabel.get_text().split())


@pytest.mark.slow
def test_at_the_centre_of_a_plane_the_curve_is_the_density_there(tmp_path):
    surface = made(tmp_path / "s.h5", np.linspace(-1, 1, 3), np.linspace(-1, 1, 3))
    figure = compose([surface], Options(kind="density", bandwidth=0.2))
    (axes,) = figure.axes
    curve, zero = axes.lines
    assert np.trapezoid(curve.get_ydata(), curve.get_xdata()) == pytest.approx(1, abs=1e-3)
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == pytest.approx(0.1 / (1000 * 0.2 * np.sqrt(2 * np.pi)))
    assert zero.get_xdata() == [0, 0]
    words = caption(figure)
    for fact in ("at θ*", "trace 7 ± 0.25", "Hessian of 100 examples, 2 probes, 3 steps", "1,000 parameters"):
        assert fact in words
    assert "Gaussian bandwidth 0.2 · standard error shaded" in words


@pytest.mark.slow
def test_along_a_line_a_heat_map_has_a_column_a_point_and_gaps(line):
    figure = compose([line], Options(kind="density"))
    axes, bar = figure.axes
    (mesh,) = axes.collections
    values = mesh.get_array()
    assert values.mask.all(axis=0).tolist() == [False, True, False, False, False]
    rows = open_surface(line.path).density().eigenvalues
    assert values.shape[0] > len(rows) / 2  # wider, as the eigenvalues at the ends are
    assert bar.get_ylabel() == "share of eigenvalues per unit"
    figure.draw_without_rendering()
    assert {"0.1", "1"} <= {tick.get_text() for tick in bar.get_yticklabels()}
    assert "random directions, filter-normalised, seed 3" in caption(figure)
    assert "Gaussian bandwidth 0.1" in caption(figure)


def test_a_linear_scale_and_ends_are_as_asked(tmp_path):
    surface = made(tmp_path / "s.h5", np.zeros(1))
    (axes,) = compose([surface], Options(kind="density", log=False, high=0.5)).axes
    assert (axes.get_yscale(), axes.get_ylim()) == ("linear", (0.0, 0.5))
    with pytest.raises(UserError, match="found 2 and 1; expected ends of a scale"):
        compose([surface], Options(kind="density", low=2, high=1))


@pytest.mark.slow
def test_the_command_writes_it_under_its_own_name(tmp_path, line):
    assert plot([str(line.path), "--kind", "density", "--bandwidth", "0.3"]) == 0
    assert (tmp_path / "line_density.png").exists()


@pytest.mark.slow
def test_the_trace_has_its_standard_error_in_caption_and_band(line, tmp_path):
    figure = compose([line], Options(metric="trace"))
    assert "standard error ≤ 0.25, shaded" in caption(figure)
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(14.25)
    plane = made(tmp_path / "s.h5", np.linspace(-1, 1, 3), np.linspace(-1, 1, 3))
    assert "standard error ≤ 0.25" in caption(compose([plane], Options(metric="trace")))


@pytest.mark.slow
def test_python_gets_the_density_and_the_figure(line):
    surface = open_surface(line.path)
    found = surface.density(1.0, bandwidth=0.1)
    assert found.point == (1.0,)
    assert found.eigenvalues[found.density.argmax()] == pytest.approx(0, abs=0.25)
    assert surface.plot("density", bandwidth=0.1).axes
    with pytest.raises(UserError, match="bandwidth: found 0; expected a number above 0"):
        surface.density(bandwidth=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "density", "metric": "trace"}, "--metric: --kind density has no use for it"),
        ({"kind": "density", "levels": (1.0,)}, "--levels: --kind density has no use for it"),
        ({"kind": "line", "bandwidth": 0.1}, "--bandwidth: is for spectra; expected --kind density as well"),
        ({"kind": "density", "bandwidth": -1.0}, "--bandwidth: found -1; expected a number above 0"),
    ],
)
def test_what_a_density_has_no_use_for_is_refused(line, options, words):
    with pytest.raises(UserError, match=words):
        compose([line], Options(**options))


def test_points_and_lines_are_not_mixed_and_other_surfaces_have_none(line, tmp_path):
    point = made(tmp_path / "s.h5", np.zeros(1))
    with pytest.raises(UserError, match=r"s.h5: shows one point, .*line.h5 a line; expected one or the other"):
        compose([line, point], Options(kind="density"))
    write(tmp_path / "other.h5", np.zeros(1), None, {"train_loss": np.ones(1)})
    with pytest.raises(UserError, match=r"other\.h5: has no spectrum"):
        compose([read_surface(tmp_path / "other.h5")], Options(kind="density"))


@pytest.mark.parametrize("beta", [None, [0.0]], ids=["line", "plane"])
def test_a_page_of_one_point_has_the_density_there(tmp_path, beta):
    surface = made(tmp_path / "s.h5", [0.0], beta)
    (held,) = content([surface], Options())["surfaces"]
    columns = {name: np.frombuffer(b64decode(text)) for name, text in held["density"]["columns"].items()}
    expected = open_surface(surface.path).density()
    for name in ("eigenvalues", "density", "stderr"):
        np.testing.assert_array_equal(columns[name], getattr(expected, name))
    assert held["density"]["scale"]["log"]
    assert {"at θ*", "trace 7 ± 0.25", "Gaussian bandwidth 0.05"} <= set(held["density"]["facts"])
    linear = content([surface], Options(log=False, high=3.0))["surfaces"][0]["density"]["scale"]
    assert linear == {"low": 0.0, "high": 3.0, "log": False}


def test_pages_of_points_and_lines_do_not_mix_and_lines_have_no_density(tmp_path, line):
    point = made(tmp_path / "s.h5", [0.0])
    assert content([line], Options())["surfaces"][0]["density"] is None
    with pytest.raises(UserError, match=r"1 points have no extent; expected .* one point with its spectrum"):
        content([line, point], Options())
