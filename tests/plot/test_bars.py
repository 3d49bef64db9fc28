"""Error bars of sampled surfaces: a band along a line, a map of relative bars, and what the caption promises."""

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.plot import labels
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from landscape_mpi.surface.read import read_surface, share_used
from landscape_mpi.surface.status import describe
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import bowl, write

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]
LOSS = bowl(ALPHA, BETA)


@pytest.fixture
def sampled(make):
    """A plane with bars of 1 % of the loss, 1.66 % at one point and none at another, on a tenth of 4,000 images."""
    share = np.full(LOSS.shape, 0.01)
    share[2, 3], share[0, 0] = 0.0166, 0.0
    images = np.full(LOSS.shape, 400)
    images[0, 0] = 4000
    metrics = {"train_loss": LOSS, "train_loss_bar": share * LOSS, "train_examples": images}
    return make(metrics, attributes={"train_size": 4000})


@pytest.fixture
def line(make):
    """A line with bars on loss and accuracy."""
    loss = LOSS[3]
    accuracy = 100 / (1 + loss)
    metrics = {"train_loss": loss, "train_loss_bar": 0.2 * loss, "train_acc": accuracy, "train_acc_bar": 0 * loss + 1.5}
    return make(metrics, beta=None)


def test_the_caption_rounds_the_widest_bar_up(sampled):
    assert "95 % error bars ≤ 1.7 %" in labels.facts([field_of(sampled)])


@pytest.mark.parametrize(("bar", "said"), [(0.02, "2"), (0.0200001, "2.1"), (0.000999, "0.1"), (0.314, "32"), (0, "0")])
def test_what_is_promised_holds(make, bar, said):
    surface = make({"train_loss": LOSS, "train_loss_bar": bar * LOSS})
    assert f"95 % error bars ≤ {said} %" in labels.facts([field_of(surface)])


def test_accuracies_are_promised_in_points_and_several_metrics_by_name(line):
    facts = labels.facts([field_of(line, "train_loss"), field_of(line, "train_acc")])
    assert "95 % error bars of the training loss ≤ 20 %" in facts
    assert "95 % error bars of the training accuracy ≤ 1.5 points" in facts


@pytest.mark.parametrize(("floor", "said"), [(1e-3, " of the rise above f(0, 0), or 0.1 % of f(0, 0)"), (0.0, None)])
def test_bars_of_the_rise_are_relative_to_it_and_no_narrower_than_asked_for(make, floor, said):
    centre = float(LOSS.min())
    bars = np.maximum(0.05 * (LOSS - centre), floor * centre)
    attributes = {"sampling_of": "rise", "sampling_floor": floor, "sampling_error": 0.05, "train_loss_centre": centre}
    metrics = {"train_loss": LOSS, "train_loss_bar": bars, "train_examples": np.full(LOSS.shape, 400)}
    surface = make(metrics, attributes=attributes)
    assert f"95 % error bars ≤ 5 %{said or ' of the rise above f(0, 0)'}" in labels.facts([field_of(surface)])
    relative = field_of(surface, "train_loss_relbar").values
    assert np.nanmax(relative) == pytest.approx(5)
    assert f"train_loss: at most 5 %{said or ' of the rise above f(0, 0)'}" in describe(surface.path)


@pytest.mark.parametrize("key", ["sampling_floor", "sampling_error", "train_loss_centre"])
def test_a_rise_that_no_attribute_tells_is_not_promised(make, key):
    attributes = {"sampling_of": "rise", "sampling_floor": 0.1, "sampling_error": 0.05, "train_loss_centre": 1.0}
    surface = make({"train_loss": LOSS, "train_loss_bar": 0.02 * LOSS}, attributes={**attributes, key: "what"})
    assert "95 % error bars ≤ 2 %" in labels.facts([field_of(surface)])


def test_a_surface_without_bars_promises_nothing(rectangle):
    assert not any("error bars" in fact for fact in labels.facts([field_of(rectangle)]))


def test_a_map_of_relative_bars(sampled):
    field = field_of(sampled, "train_loss_relbar")
    assert field.quantity.label == "relative 95 % error bar of the training loss (%)"
    assert field.values[2, 3] == pytest.approx(1.66)
    assert field.values[0, 0] == 0
    figure = compose([sampled], Options(metric="train_loss_relbar", kind="heat"))
    assert figure.axes[1].get_ylabel() == field.quantity.label


def test_what_has_no_bars_has_no_relative_ones(rectangle):
    with pytest.raises(UserError, match="has no train_loss_relbar"):
        field_of(rectangle, "train_loss_relbar")


@pytest.mark.parametrize("log", [False, True])
def test_a_line_has_bands_as_wide_as_its_bars(line, log):
    left, right = compose([line], Options(log=log)).axes
    for axes, name in ((left, "train_loss"), (right, "train_acc")):
        (band,) = axes.collections
        heights = band.get_paths()[0].vertices[:, 1]
        values, bars = line.metrics[name], line.metrics[f"{name}_bar"]
        assert heights.max() == pytest.approx((values + bars).max())
        assert heights.min() == pytest.approx((values - bars).min())


def test_while_bars_narrow_a_full_surface_says_so_and_shows_no_dots(make, folder):
    metrics = {"train_loss": LOSS, "train_loss_bar": LOSS, "train_examples": LOSS}
    path = write(folder / "running.h5", ALPHA, BETA, metrics)
    with h5py.File(path, "r+") as file:
        file["complete"][()] = 0
    surface = read_surface(path)
    assert not surface.complete
    assert "error bars still to narrow" in labels.facts([field_of(surface)])
    figure = compose([surface], Options())
    assert not any(artist.get_gid() == "done" for artist in figure.axes[0].collections)
    assert "incomplete: error bars still to narrow" in describe(path)


def test_info_says_what_was_saved(sampled):
    assert share_used(sampled) == pytest.approx((62 * 400 + 4000) / (63 * 4000))
    told = describe(sampled.path)
    assert "train_loss: at most 1.66 % of the mean" in told
    assert "11.43% of a full sweep's evaluations (1/8.75)" in told
