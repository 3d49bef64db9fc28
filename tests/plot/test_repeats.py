"""Lines along several random directions: one band, its median, range and members."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from landscape_mpi.plot import labels
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.line import grouped
from landscape_mpi.plot.options import Options
from plot.conftest import ALPHA
from plot.made_surfaces import JOB

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]
FINGERPRINTS = {"checkpoint_sha256": "net", "data_sha256": "data"}
STEEPNESS = (1.0, 5.0, 2.0)


@pytest.fixture
def bowls(make):
    """Three repeats, each a parabola of a steepness of its own."""
    return [repeat(make, seed, {"train_loss": steep * ALPHA**2 + 1}) for seed, steep in enumerate(STEEPNESS)]


def repeat(make, seed, metrics, name=None, **others):
    attributes = {**FINGERPRINTS, "seed": seed, **others.pop("attributes", {})}
    return make(metrics, beta=None, name=name or f"net.r{seed}.h5", attributes=attributes, **others)


def thin(axes):
    return [line for line in axes.lines if line.get_gid() == "repeat"]


def texts(figure):
    return " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_they_are_one_panel_with_median_range_and_each_line(bowls):
    figure = compose(bowls, Options())
    (axes,) = figure.axes
    (curve,) = [line for line in axes.lines if line.get_gid() != "repeat"]
    np.testing.assert_allclose(curve.get_ydata(), 2 * ALPHA**2 + 1)
    for line, steep in zip(thin(axes), STEEPNESS, strict=True):
        np.testing.assert_allclose(line.get_ydata(), steep * ALPHA**2 + 1)
    (band,) = [item for item in axes.collections if isinstance(item, PolyCollection)]
    corners = band.get_paths()[0].vertices
    for alpha in ALPHA:
        at = corners[np.isclose(corners[:, 0], alpha), 1]
        assert (at.min(), at.max()) == pytest.approx((alpha**2 + 1, 5 * alpha**2 + 1))


def test_the_caption_says_what_the_band_is_and_the_title_names_no_repeat(bowls):
    said = texts(compose([bowls[2], *bowls[:2]], Options()))
    assert "median and range of 3 random directions, filter-normalised, seeds 0 to 2" in said
    assert ".r0" not in said


def test_seeds_with_gaps_are_listed(bowls, make):
    fifth = repeat(make, 5, {"train_loss": ALPHA**2 + 1})
    assert labels.line_facts([[field_of(one) for one in (bowls[0], fifth)]])[0].endswith("seeds 0, 5")


@pytest.mark.parametrize(
    "others",
    [
        {"attributes": {"checkpoint_sha256": "another"}},
        {"attributes": {"data_sha256": "others"}},
        {"attributes": {"seed": 0}},
        {"job": JOB.replace("limit: 500", "limit: 400")},
        {"job": JOB.replace("{kind: random, seed: 3}", "{kind: random, seed: 3, normalize: layer}")},
        {"job": JOB.replace("{kind: random, seed: 3}", "{kind: interpolate, to: b.pt}")},
        {"job": None},
        {"alpha": ALPHA + 0.125},
    ],
)
def test_what_differs_in_more_than_the_seed_is_a_panel_of_its_own(bowls, make, others):
    other = repeat(make, 7, {"train_loss": ALPHA**2 + 1}, "other.h5", **others)
    assert [len(group) for group in grouped([bowls[0], other, bowls[1]])] == [2, 1]


def test_jobs_that_differ_in_seed_places_and_training_are_repeats(bowls, make):
    job = JOB.replace("seed: 3", "seed: 9, repeats: 4").replace("nets/", "elsewhere/").replace("made.h5", "b.h5")
    other = repeat(make, 9, {"train_loss": ALPHA**2 + 1}, job=job + "train: {output: nets}\n")
    assert [len(group) for group in grouped([*bowls, other])] == [4]


def test_two_networks_are_two_bands_on_one_scale(bowls, make, layout):
    others = [
        repeat(make, seed, {"train_loss": 9 * ALPHA**2 + seed}, f"b.r{seed}.h5", attributes={"checkpoint_sha256": "b"})
        for seed in (1, 2)
    ]
    first, second = compose([*bowls, *others], Options()).axes
    assert (len(thin(first)), len(thin(second))) == (3, 2)
    assert first.get_ylim() == second.get_ylim()


def test_a_repeat_that_is_unfinished_or_infinite_takes_part_with_what_it_has(bowls, make):
    values = ALPHA**2 * 50 + 1
    values[3] = np.inf
    status = np.ones(ALPHA.size, np.uint8)
    status[4] = 0
    figure = compose([*bowls, repeat(make, 3, {"train_loss": values}, status=status)], Options(log=False))
    (curve,) = [line for line in figure.axes[0].lines if line.get_gid() != "repeat"]
    middle = np.full(ALPHA.size, 3.5)  # between 2 and 5, of the four; of the other three alone it is 2
    middle[3:5] = 2.0
    np.testing.assert_allclose(curve.get_ydata(), middle * ALPHA**2 + 1)
    said = texts(figure)
    assert "35 of 36 points" in said
    assert "training loss inf at 1 point" in said


def test_train_and_test_of_loss_and_accuracy_are_four_bands(make):
    loss = [steep * ALPHA**2 + 1 for steep in STEEPNESS]
    every = [
        {"train_loss": one, "test_loss": one + 1, "train_acc": 90 / one, "test_acc": 80 / one, "test_acc_stderr": one}
        for one in loss
    ]
    figure = compose([repeat(make, seed, metrics) for seed, metrics in enumerate(every)], Options())
    shown = [line.get_label() for axes in figure.axes for line in axes.lines if line.get_gid() != "repeat"]
    assert shown == ["training loss", "test loss", "training accuracy", "test accuracy"]
    assert [len(thin(axes)) for axes in figure.axes] == [6, 6]
