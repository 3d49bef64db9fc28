"""Repeats of a job along several random directions: theta* is evaluated once, and each is as if swept alone."""

import h5py
import pytest

from landscape_mpi.errors import Exit
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import choose_engine, large
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.full import PointRunner
from landscape_mpi.sweeping.kept import Kept
from landscape_mpi.sweeping.run import sweep
from support.jobs import results, tiny_job

OPTIONS = Options(device="cpu")
LINE = {"grid": {"alpha": [-1, 1, 3]}, "evaluate": {"batch": 16}}


@pytest.fixture
def whole_passes(monkeypatch):
    """Counts how often all examples are evaluated at one point before the sweep of points begins."""
    found, plain = [], choose_engine.evaluate_all

    def counted(world, experiment, evaluate, batch, limit=None):
        found.extend([1] if limit is None else [])
        return plain(world, experiment, evaluate, batch, limit)

    fill = Kept.fill

    def kept(self, point, split, *others):
        found.extend([1] if split == 0 else [])
        return fill(self, point, split, *others)

    monkeypatch.setattr(choose_engine, "evaluate_all", counted)
    monkeypatch.setattr(Kept, "fill", kept)
    return found


def swept(folder, **changes):
    assert sweep(tiny_job(folder, **LINE, **changes), OPTIONS, Solo()) == Exit.COMPLETE


@pytest.mark.slow
@pytest.mark.parametrize("held", ["copied", "live"])
@pytest.mark.parametrize("sampling", [None, {"error": 0.3, "audit": 1}], ids=["all", "sampled"])
def test_theta_is_evaluated_once_for_all_repeats(tmp_path, monkeypatch, whole_passes, held, sampling):
    if held == "live":
        monkeypatch.setattr(large, "LARGE", 0)
    changes = {"data__options": {"images": 400}, "sampling": sampling} if sampling else {}
    swept(tmp_path, plane={"kind": "random", "seed": 5, "repeats": 3}, **changes)
    assert len(whole_passes) == {"copied": 2, "live": 1}[held]  # by the network itself and by its engine
    for seed in (5, 7):
        swept(tmp_path, plane={"kind": "random", "seed": seed}, output__file=f"{seed}.h5", **changes)
        assert results(tmp_path / f"{seed}.h5") == results(tmp_path / f"surface.r{seed - 5}.h5")


@pytest.mark.slow
@pytest.mark.parametrize("of", ["loss", "rise"])
def test_sampled_repeats_take_the_point_of_theta_as_known(tmp_path, monkeypatch, of):
    places, plain = [], PointRunner.run

    def recorded(self, index, evaluate):
        places.append(index)
        return plain(self, index, evaluate)

    monkeypatch.setattr(PointRunner, "run", recorded)
    changes = {"data__options": {"images": 900}, "sampling": {"error": 0.3, "audit": 1, "of": of}}
    swept(tmp_path, plane={"kind": "random", "repeats": 2}, **changes)
    assert set(places) == {(0,), (2,)}
    swept(tmp_path, output__file="full.h5", data__options={"images": 900})
    with h5py.File(tmp_path / "full.h5") as file:
        centre = file["train_loss"][1]
    for repeat in (0, 1):
        with h5py.File(tmp_path / f"surface.r{repeat}.h5") as file:
            assert (file["train_loss_bar"][1], file["train_examples"][1], file["status"][1]) == (0, 900, 1)
            assert file["train_loss"][1] == centre


@pytest.mark.slow
def test_a_repeat_that_goes_on_alone_is_the_same(tmp_path, whole_passes):
    changes = {"plane": {"kind": "random", "seed": 5, "repeats": 3}}
    swept(tmp_path, **changes)
    before = [results(tmp_path / f"surface.r{repeat}.h5") for repeat in range(3)]
    (tmp_path / "surface.r1.h5").unlink()
    whole_passes.clear()
    swept(tmp_path, **changes)
    assert whole_passes == [1, 1]
    assert [results(tmp_path / f"surface.r{repeat}.h5") for repeat in range(3)] == before
