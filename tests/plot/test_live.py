"""A figure that fills in: what it draws, when, and what a notebook is given."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import landscape_mpi
from landscape_mpi import PointDone, UserError


class Notebook:
    """Stands in for IPython's display: what was shown, and how often it was replaced."""

    def __init__(self):
        self.shown, self.updates = [], 0

    def display(self, figure, display_id):
        assert display_id is True
        self.shown.append(figure)
        return SimpleNamespace(update=self.update)

    def update(self, figure):
        assert figure is self.shown[0]
        self.updates += 1


@pytest.fixture
def notebook(monkeypatch):
    """A notebook, as far as IPython tells."""
    found, package, display = Notebook(), ModuleType("IPython"), ModuleType("IPython.display")
    package.version_info = (9, 0)  # matplotlib asks
    package.get_ipython, display.display = lambda: found, found.display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return found


def points(axes, value=lambda *at: 1 + sum(x * x for x in at)):
    """Every point of a grid, one after the other."""
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    for done, place in enumerate(places.tolist(), 1):
        yield PointDone((0,) * len(axes), tuple(place), {"train_loss": value(*place)}, done, len(places))


def test_a_plane_fills_in_and_is_drawn_when_it_is_time_and_at_the_end(notebook):
    now = [0.0]
    live = landscape_mpi.LiveFigure(every=2.0, clock=lambda: now[0])
    for point in points([[-1.0, 0.0, 1.0], [0.0, 0.5]]):
        live(point)
        now[0] += 0.9
    assert (len(notebook.shown), notebook.updates) == (1, 2)  # at 0, 2.7 and with the last point
    axes, _ = live.figure.axes
    assert axes.get_title() == "6 of 6 points"
    np.testing.assert_array_equal(axes.collections[0].get_array(), [[2, 1, 2], [2.25, 1.25, 2.25]])
    assert "<img" in notebook.shown[0]._repr_html_()


def test_places_that_are_not_done_or_not_finite_stay_empty(notebook):
    live = landscape_mpi.LiveFigure(every=0.0)
    for point in list(points([[-1.0, 1.0], [0.0, 1.0]], lambda a, b: np.inf if a < 0 else -b))[:3]:
        live(point)
    (mesh,) = live.figure.axes[0].collections
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), [[np.nan, -0.0], [np.nan, np.nan]])


def test_a_sweep_of_a_line_draws_a_curve_where_there_is_no_notebook():
    live = landscape_mpi.LiveFigure()
    for point in points([[-1.0, 0.0, 1.0]]):
        live(point)
    (curve,) = live.figure.axes[0].lines
    np.testing.assert_array_equal(curve.get_xydata(), [[-1, 2], [0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("metric", "axes", "words"),
    [("test_loss", [[0.0]], "found 'test_loss'; expected one of train_loss"), ("train_loss", [[0.0]] * 3, "volume")],
)
def test_what_it_cannot_draw_is_refused(metric, axes, words):
    live = landscape_mpi.LiveFigure(metric)
    with pytest.raises(UserError, match=words):
        live(next(points(axes)))
