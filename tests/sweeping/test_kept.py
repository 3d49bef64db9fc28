"""What precedes the order of the examples is kept: the range of `grid: auto`, and theta*'s losses."""

import math
from contextlib import suppress

import numpy as np
import pytest
import torch

from landscape_mpi.errors import CentreMismatchError, Exit, UserError
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.shutdown import Interrupted, Stop
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import journal_folder
from landscape_mpi.surface.journal import journals
from landscape_mpi.sweeping import large
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.kept import Kept
from landscape_mpi.sweeping.planes import reach
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

SAMPLED = {
    "data__options": {"images": 1600},
    "data__splits": ["train"],
    "metrics": ["loss"],
    "grid": {"alpha": "auto", "points": 25},
    "evaluate": {"batch": 16},
    "sampling": {"error": 0.3, "of": "rise", "audit": 2},
}
IDENTITY = bytes(32)


def kept(folder, identity=IDENTITY):
    return Kept(Solo(), folder, identity, "theta")


def squares(asked):
    def evaluate(places):
        asked.append((places.start, places.stop))
        return PerExample(np.arange(places.start, places.stop, dtype=float) ** 2, {})

    return evaluate


def test_what_is_kept_is_not_evaluated_again_and_ends_where_a_batch_does(tmp_path):
    asked = []
    with kept(tmp_path) as first:
        first.fill(3, 0, slice(0, 40), 4, squares(asked))
    assert asked == [(0, 40)]
    asked.clear()
    with kept(tmp_path) as again:
        found = again.fill(3, 0, slice(0, 100), 4, squares(asked))
        assert again.examples == 100
    assert found.losses.tolist() == [i**2 for i in range(100)]
    assert asked == [(40, 72), (72, 100)]
    with kept(tmp_path) as third:
        assert third.whole({"train": 101}, 3) is None
        whole = third.whole({"train": 100}, 3)
    assert whole["train"].losses.tobytes() == found.losses.tobytes()


def test_an_interrupted_evaluation_keeps_what_was_done_and_another_sweep_begins_anew(tmp_path):
    asked = []

    def stops(places):
        if len(asked) == 2:
            raise Interrupted("SIGTERM")
        return squares(asked)(places)

    with pytest.raises(Interrupted), kept(tmp_path) as first:
        first.fill(3, 0, slice(0, 100), 4, stops)
    with kept(tmp_path) as again:
        assert again.examples == 64
    with kept(tmp_path, b"x" * 32) as other:
        assert other.examples == 0


@pytest.fixture(params=["copied", "large"])
def size(request, monkeypatch):
    if request.param == "large":
        monkeypatch.setattr(large, "LARGE", 0)
        monkeypatch.setattr(reach, "LARGE", 0)
    return request.param


def test_a_sweep_that_is_stopped_early_repeats_neither_the_range_nor_theta(tmp_path, caplog, size):
    caplog.set_level("INFO", "landscape_mpi")
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    assert sweep(tiny_job(undisturbed, **SAMPLED), Options(device="cpu"), Solo()) == Exit.COMPLETE
    job, folder = tiny_job(tmp_path, **SAMPLED), journal_folder(tmp_path / "surface.h5")

    def stopped_once(kind, length):
        def now():
            there = sum(path.stat().st_size for path in journals(folder, kind=kind))
            return math.inf if there > length else 0.0

        options = Options(device="cpu", time_limit=3600.0)
        with suppress(Interrupted):
            assert sweep(job, options, Solo(), Stop(clock=now)) == Exit.RUN_AGAIN

    stopped_once("range", 2000)
    assert not (tmp_path / "surface.h5").exists()
    stopped_once("pilots", 2000)
    assert journals(folder, kind="range") == []
    assert "evaluations of examples are there already" in caplog.text
    caplog.clear()
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    assert "looking for the range" not in caplog.text
    assert "theta*: the results of 1,600 of its examples are there." in caplog.text
    assert results(tmp_path / "surface.h5") == results(undisturbed / "surface.h5")


def test_a_network_of_many_numbers_is_looked_at_on_fewer_examples(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO", "landscape_mpi")
    monkeypatch.setattr(reach, "LARGE", 0)
    job = tiny_job(tmp_path, **{**SAMPLED, "sampling": None, "grid": {"alpha": "auto", "points": 3}})
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    assert "by the train loss of 32 examples" in caplog.text
    assert not journal_folder(tmp_path / "surface.h5").exists()


REFUSED = {
    "after the range": ({"loss": "tiny:once", "metrics": ["loss", "hessian"], "sampling": None}, UserError),
    "before theta*": ({"model__build": "tiny:Dropping", "grid": {"alpha": [-1, 1, 25]}}, CentreMismatchError),
}


@pytest.mark.parametrize("when", REFUSED)
def test_what_is_refused_leaves_nothing_behind(tmp_path, caplog, when):
    caplog.set_level("INFO", "landscape_mpi")
    changes, error = REFUSED[when]
    if error is CentreMismatchError:
        torch.save(tiny.Dropping().state_dict(), tmp_path / "net.pt")
    job = tiny_job(tmp_path, **{**SAMPLED, **changes})
    with pytest.raises(error):
        sweep(job, Options(device="cpu"), Solo())
    assert ("grid: alpha -" in caplog.text) == (when == "after the range")
    assert {path.name for path in tmp_path.glob("surface*")} <= {"surface.h5.lock"}
