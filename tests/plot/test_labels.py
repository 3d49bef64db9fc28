"""Titles and captions say what is shown."""

import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.plot import labels
from landscape_mpi.plot.field import field_of
from landscape_mpi.plot.options import Options
from landscape_mpi.plot.origin import Origin
from landscape_mpi.plot.scale import scale_of
from plot.made_surfaces import JOB, coarse

PLANE = np.arange(63.0).reshape(7, 9) + 1


def test_a_caption_names_directions_and_data(rectangle):
    assert labels.facts([field_of(rectangle)]) == [
        "random directions, filter-normalised, seed 3",
        "CIFAR-10, first 500 examples",
    ]


def test_a_caption_says_how_far_an_unfinished_surface_is(make):
    status = coarse((7, 9), 2)
    status[0, 0] = 2
    assert "19 of 63 points, 1 failed" in labels.facts([field_of(make({"train_loss": PLANE}, status=status))])


def test_a_caption_counts_what_is_not_finite(with_gaps):
    assert "training loss inf at 1 point, NaN at 2 points" in labels.facts([field_of(with_gaps)])


def test_a_caption_confesses_zeros_on_a_log_scale(make):
    values = PLANE - 1
    field = field_of(make({"train_loss": values}))
    assert labels.scale_facts([field], scale_of([field], Options(log=True))) == ["1 point of value 0 drawn at 1"]
    assert labels.scale_facts([field], scale_of([field], Options(log=False))) == []


def test_facts_that_all_panels_share():
    assert labels.shared([["a", "b"], ["b", "c"]]) == ["b"]


def test_panels_of_one_network_are_told_apart_by_their_files(make):
    first, second = make({"train_loss": PLANE}, name="seed0.h5"), make({"train_loss": PLANE}, name="seed1.h5")
    third = make({"train_loss": PLANE}, name="third.h5", job=JOB.replace("resnet56", "resnet20"))
    fourth = make({"train_loss": PLANE}, name="fourth.h5", job=None)
    assert labels.panel_titles([field_of(surface) for surface in (first, second, third, fourth)]) == [
        "ResNet-56, no shortcuts (seed0)",
        "ResNet-56, no shortcuts (seed1)",
        "ResNet-20, no shortcuts",
        "fourth",
    ]


@pytest.mark.parametrize(
    ("origin", "along_alpha", "along_beta"),
    [
        (Origin(), "α (δ direction)", "β (η direction)"),  # noqa: RUF001
        (Origin(kind="pca"), "α (1st PCA component)", "β (2nd PCA component)"),  # noqa: RUF001
        (Origin(kind="interpolate", to="big", via="third"), "α (0: θ*, 1: big)", "β (1: third)"),  # noqa: RUF001
    ],
)
def test_axes_say_what_they_are(origin, along_alpha, along_beta):
    assert labels.alpha_label(origin) == along_alpha
    assert labels.beta_label(origin) == along_beta


def test_a_title_may_hold_mathematics_that_is_readable():
    assert labels.checked(r"$\alpha^2$ and 5\$") == r"$\alpha^2$ and 5\$"
    with pytest.raises(UserError, match="--title: found"):
        labels.checked(r"$\nonsense{$")
