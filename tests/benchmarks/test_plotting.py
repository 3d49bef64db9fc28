"""The benchmark of the figures: its surfaces are real ones, and its verdicts are told by the targets."""

import numpy as np
import pytest

from landscape_mpi.surface import read_surface


@pytest.fixture
def plotting(benchmark_named):
    return benchmark_named("plotting")


@pytest.mark.parametrize(("name", "decades"), [("smooth", (1, 2)), ("chaotic", (9.9, 10))])
def test_surfaces_are_complete_and_as_rough_as_they_say(plotting, tmp_path, name, decades):
    surface = read_surface(plotting.write(tmp_path / "s.h5", plotting.SURFACES[name]))
    loss = surface.metrics["train_loss"]
    assert surface.complete
    assert loss.shape == (plotting.POINTS, plotting.POINTS)
    assert decades[0] < np.log10(loss.max() / loss.min()) < decades[1]


@pytest.mark.parametrize(("cpu", "verdict"), [(1.1, "met"), (1.3, "missed")])
def test_a_figure_is_held_against_its_target(plotting, cpu, verdict):
    row = {"surface": "smooth", "kind": "heat", "cpu": cpu, "least": cpu, "most": cpu, "wall": cpu, "target": 1.2}
    assert verdict in plotting.figure_row(row)
    del row["target"]
    assert verdict not in plotting.figure_row(row)
