"""The precision floor: what a surface gets wrong of the rise above f(0, 0) by rounding; measured, told, kept."""

import json
import weakref

import h5py
import numpy as np
import pytest
import torch

from landscape_mpi.api import open_surface
from landscape_mpi.errors import Exit
from landscape_mpi.job import Axis, Grid
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import read_surface
from landscape_mpi.surface.export import export
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping import floor, large
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import tiny_job

OPTIONS = Options(device="cpu")
CLOSE = floor.FACTOR**-floor.STEPS
LINE = {"alpha": [-CLOSE, CLOSE, 3]}
"""The points at which a line to 1 is measured first, and the centre."""


def surface(folder, dtype, **changes):
    """The surface of a sweep of the tiny job, on as few examples as the floor is measured on."""
    path = folder / f"{dtype}-{len(list(folder.glob('*.h5')))}.h5"
    changes = {"data__options": {"images": 4}, "grid": LINE, **changes}
    job = tiny_job(folder, output__file=path.name, evaluate__dtype=dtype, **changes)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    return read_surface(path)


def rises(found):
    """How far the losses of both splits are above f(0, 0) on either side."""
    return np.array(
        [losses[[0, 2]] - losses[1] for losses in (found.metrics["train_loss"], found.metrics["test_loss"])]
    )


@pytest.fixture
def all_are_measured(monkeypatch):
    monkeypatch.setattr(floor, "WORTH", 0)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e-6), ("bfloat16", 1e-1)])
@pytest.mark.parametrize("weights", ["auto", "streamed"])
def test_the_floor_is_the_largest_error_of_the_rise_close_to_the_centre(
    tmp_path, monkeypatch, all_are_measured, dtype, size, weights
):
    monkeypatch.setattr(floor, "DECIDES", 1e9)  # the first step alone, whose points are those of the line
    monkeypatch.setattr(floor, "SHARE", 1)
    points = {"grid": {"alpha": [-1, 1, 3]}, "evaluate__weights": weights, "evaluate__engine": "eager"}
    measured = surface(tmp_path, dtype, **points).precision_floor
    ours, exact = (rises(surface(tmp_path, one)) for one in (dtype, "float64"))
    assert measured == pytest.approx(np.abs(ours - exact).max(), rel=1e-6, abs=1e-14)
    assert 0 < measured < size


@pytest.mark.slow
def test_rises_above_the_floor_are_right_to_within_it(tmp_path):
    low = surface(tmp_path, "bfloat16", grid={"alpha": [-1, 1, 3]})
    assert low.precision_floor > 1e-5
    fine = {"alpha": [-2 * CLOSE, 2 * CLOSE, 3]}
    ours, exact = (rises(surface(tmp_path, one, grid=fine)) for one in ("bfloat16", "float64"))
    assert np.all(np.abs(ours - exact) < 3 * low.precision_floor)


@pytest.mark.slow
def test_it_is_told_recorded_and_told_again_by_a_sweep_that_goes_on(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    found = surface(tmp_path, "bfloat16")
    line = floor.floor_text("bfloat16", found.precision_floor)
    assert line in caplog.text
    assert f"precision floor    {found.precision_floor:.6g}" in describe(found.path)
    assert open_surface(found.path).precision_floor == found.precision_floor
    export(found.path, tmp_path / "surface.npz")
    with np.load(tmp_path / "surface.npz") as arrays:
        assert json.loads(str(arrays["attributes"]))["precision_floor"] == found.precision_floor
    with h5py.File(found.path, "r+") as file:
        file["status"][1], file["complete"][()] = 0, 0
    caplog.clear()
    monkeypatch.setattr(floor, "in_float64", None)  # it is not measured again
    assert sweep(tmp_path / "job.yaml", OPTIONS, Solo()) == Exit.COMPLETE
    assert line in caplog.text
    assert read_surface(found.path).precision_floor == found.precision_floor


@pytest.mark.parametrize("changes", [{}, {"evaluate__dtype": "float64"}, {"grid": {"alpha": [0, 0, 1]}}])
def test_where_it_is_not_measured(tmp_path, monkeypatch, changes):
    if changes:
        monkeypatch.setattr(floor, "WORTH", 0)
    job = tiny_job(tmp_path, **{"grid": LINE, **changes})
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    assert read_surface(tmp_path / "surface.h5").precision_floor is None


def test_a_network_of_float32_alone_has_no_floor_and_the_sweep_says_so(tmp_path, caplog):
    (tmp_path / "narrow.py").write_text(
        "import torch\nfrom support import tiny\n\n\nclass Narrow(torch.nn.Sequential):\n"
        "    def forward(self, x):\n        return super().forward(x.float())\n\n\n"
        "def network():\n    return Narrow(*tiny.network())\n"
    )
    found = surface(tmp_path, "bfloat16", model__build="narrow:network")
    assert found.precision_floor is None
    assert "what bfloat16 can resolve is not known, because the network fails in float64: " in caplog.text


@pytest.mark.slow
def test_of_a_large_network_it_is_measured_in_float32_too(tmp_path, monkeypatch):
    copied = surface(tmp_path, "bfloat16")
    monkeypatch.setattr(large, "LARGE", 0)
    moved = surface(tmp_path, "bfloat16")
    assert moved.precision_floor == pytest.approx(copied.precision_floor, rel=1e-3)
    assert surface(tmp_path, "float32").precision_floor is None  # it would take as long as these few evaluations
    monkeypatch.setattr(floor, "SHARE", 1)
    assert surface(tmp_path, "float32").precision_floor < 1e-6


def test_the_reference_of_a_large_network_is_gone_when_the_floor_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 0)
    monkeypatch.setattr(floor, "SHARE", 1)
    references, left = [], []

    class Noted(floor.Streaming):
        def __init__(self, *args):
            super().__init__(*args)
            references.append(weakref.ref(self.network))

    monkeypatch.setattr(floor, "Streaming", Noted)
    monkeypatch.setattr(floor, "give_back_memory", lambda: left.extend(one() for one in references))
    assert surface(tmp_path, "float32").precision_floor > 0
    assert left == [None]


def test_networks_that_are_made_afresh_have_one(tmp_path, all_are_measured):
    (tmp_path / "keeps.py").write_text(
        "import torch\n\n\nclass Keeps(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.linear = torch.nn.Linear(4, 3)\n\n"
        "    def eval(self):\n        self.kept = self.linear.weight.detach() * 2\n        return super().eval()\n\n"
        "    def forward(self, x):\n        return x @ self.kept.T + self.linear.bias\n\n\n"
        "def network():\n    return Keeps()\n"
    )
    torch.manual_seed(0)
    torch.save({"linear.weight": torch.randn(3, 4), "linear.bias": torch.zeros(3)}, tmp_path / "keeps.pt")
    found = surface(tmp_path, "float32", model__build="keeps:network", model__checkpoint="keeps.pt")
    assert 0 < found.precision_floor < 1e-6


def test_where_it_is_measured_along_the_axes():
    grid = Grid(alpha=Axis(-1, 3, 5), beta=Axis(0, 2, 5))
    assert floor.along_axes(grid, 0.25) == ((-0.25, 0.0), (0.75, 0.0), (0.0, 0.5))
