"""The curve between two networks, and the straight line, on the picture of their plane."""

import numpy as np
import pytest

from landscape_mpi.plot.figure import compose
from landscape_mpi.plot.options import Options
from plot.made_surfaces import JOB, bowl

pytestmark = [pytest.mark.filterwarnings("error"), pytest.mark.usefixtures("draft")]
X, Y = np.linspace(-0.25, 1.25, 7), np.linspace(-0.25, 1.0, 6)
BEND = {"bend_alpha": 0.6, "bend_beta": 0.8}


def drawn(make, plane="", attributes=BEND):
    job = JOB.replace("{kind: random, seed: 3}", f"{{kind: curve, to: nets/other.t7{plane}}}")
    figure = compose(
        [make({"train_loss": bowl(X, Y)}, job=job, attributes=attributes, alpha=X, beta=Y)], Options(kind="filled")
    )
    return figure, {artist.get_gid(): artist for artist in figure.axes[0].get_children() if artist.get_gid()}


@pytest.mark.parametrize(("plane", "weight"), [("", 0.5), (", curve: polygon", 1.0)])
def test_both_ways_lead_from_one_end_to_the_other(make, plane, weight):
    figure, found = drawn(make, plane)
    for name in ("curve", "straight line"):
        way = np.column_stack(found[name].get_data())
        np.testing.assert_allclose(way[[0, -1]], [[0, 0], [1, 0]], atol=1e-12)
    middle = np.column_stack(found["curve"].get_data())[100]
    np.testing.assert_allclose(middle, [0.5 + weight * 0.1, weight * 0.8])
    assert figure.axes[0].get_xlabel().endswith("1: other)")
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["straight line", "curve"]


@pytest.mark.parametrize(("plane", "attributes"), [("", {}), (", coordinates: curve", BEND), (", curve: odd", BEND)])
def test_nothing_is_drawn_where_it_is_not_known_or_is_an_axis(make, plane, attributes):
    _, found = drawn(make, plane, attributes)
    assert "curve" not in found
