"""`grid: auto`: axes go as far as the loss rises by 1 nat, or doubles, on one side, in numbers of two digits."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import landscape_mpi
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.planes import reach
from landscape_mpi.sweeping.planes.reach import HIGHEST, LOWEST, number, smallest
from landscape_mpi.sweeping.run import Options, sweep
from support.jobs import results, tiny_job
from support.tiny import data, linear, network

OPTIONS = Options(device="cpu")
LINE = {"grid": {"alpha": "auto", "points": 3}, "data__splits": ["train"], "metrics": ["loss"], "loss": None}


@given(st.integers(LOWEST, HIGHEST), st.integers(LOWEST, HIGHEST), st.integers(1, 100))
def test_the_smallest_number_at_which_something_has_risen_is_found_from_anywhere(place, start, step):
    assert smallest(lambda at: at >= place, start, step) == place


@given(st.integers(LOWEST, HIGHEST))
def test_what_rises_nowhere_or_everywhere_is_told(start):
    assert smallest(lambda _: False, start) is None
    assert smallest(lambda _: True, start) == LOWEST


def test_numbers_have_two_digits_and_grow():
    numbers = [number(place) for place in range(LOWEST, HIGHEST + 1)]
    assert numbers == sorted({float(f"{value:.1e}") for value in numbers})
    assert (numbers[0], numbers[-1]) == (1e-6, 1000.0)


def swept(folder, name, options=OPTIONS, **changes):
    """The file of a sweep of a small network on a line."""
    path = folder / f"{name}.h5"
    job = tiny_job(folder, f"{name}.yaml", output__file=path.name, **{**LINE, **changes})
    assert sweep(job, options, Solo()) == Exit.COMPLETE
    return path


def losses(path):
    with h5py.File(path, locking=False) as file:
        return file["xcoordinates"][()], file["train_loss"][()]


def attributes(path):
    with h5py.File(path, locking=False) as file:
        return dict(file.attrs)


def lower(end):
    """The number of two digits before another."""
    return next(number(place - 1) for place in range(LOWEST, HIGHEST + 1) if number(place) == end)


def test_the_loss_has_risen_by_one_nat_at_an_end_and_nowhere_before_the_last_digit(tmp_path):
    alpha, found = losses(swept(tmp_path, "auto"))
    assert alpha.tolist() == [-alpha[2], 0, alpha[2]]
    assert max(found) >= found[1] + 1
    end = lower(alpha[2])
    _, before = losses(swept(tmp_path, "before", grid={"alpha": [-end, end, 3]}))
    assert max(before) < before[1] + 1


def test_a_loss_of_unknown_unit_doubles(tmp_path):
    torch.manual_seed(1)
    torch.save(linear().state_dict(), tmp_path / "net.pt")
    quadratic = {"model__build": "tiny:linear", "data__build": "tiny:regression", "loss": "mse"}
    alpha, found = losses(swept(tmp_path, "auto", **quadratic))
    assert max(found) >= 2 * found[1]
    end = lower(alpha[2])
    _, before = losses(swept(tmp_path, "before", **quadratic, grid={"alpha": [-end, end, 3]}))
    assert max(before) < 2 * before[1]


def test_what_was_found_stands_in_the_file_and_in_words(tmp_path, caplog):
    caplog.set_level("INFO", "landscape_mpi")
    path = swept(tmp_path, "auto")
    said = caplog.text
    alpha, found = losses(path)
    recorded = attributes(path)
    assert [recorded[f"range_{name}"] for name in ("alpha_low", "centre", "alpha_high")] == pytest.approx(
        found, rel=1e-6
    )
    assert (recorded["range_rise"], recorded["range_examples"]) == (1.0, 40)
    ends = f"{found[0]:.4g} and {found[2]:.4g} at the ends"
    assert f"grid: alpha {alpha[0]:g} to {alpha[2]:g}: the train loss has risen by 1 nat there" in said
    assert f"{ends} (mean of 40 of 40 examples)" in said
    assert f"(auto: loss {found[1]:.4g} at theta*, {ends}, of 40 examples)" in describe(path)


@pytest.mark.slow
def test_more_examples_than_2000_are_not_looked_at_and_no_batch_counts(tmp_path):
    many = {"data__options": {"images": 5000}}
    small, large = (swept(tmp_path, f"b{batch}", evaluate={"batch": batch}, **many) for batch in (7, 500))
    assert losses(small)[0].tobytes() == losses(large)[0].tobytes()
    assert attributes(small)["range_examples"] == 2000


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_large_networks_get_the_range_of_small_ones(tmp_path, weights, monkeypatch):
    from landscape_mpi.sweeping import large

    known = losses(swept(tmp_path, "small"))[0]
    monkeypatch.setattr(large, "LARGE", 0)
    assert losses(swept(tmp_path, "large", evaluate={"weights": weights}))[0].tobytes() == known.tobytes()


@pytest.mark.slow
def test_axes_with_a_range_keep_it_and_a_plane_has_25_points_an_axis(tmp_path):
    path = swept(tmp_path, "mixed", grid={"alpha": "auto", "beta": [0, 1, 2], "points": 4})
    with h5py.File(path, locking=False) as file:
        assert file["train_loss"].shape == (2, 4)
        assert file["ycoordinates"][()].tolist() == [0, 1]
    found = landscape_mpi.sweep(network(), "cross_entropy", data(None, "train"), grid="auto", quiet=True)
    assert found.metrics["train_loss"].shape == (25, 25)
    assert found.alpha[-1] == -found.alpha[0]


def test_a_loss_that_is_not_finite_has_risen(tmp_path):
    (tmp_path / "far.py").write_text(
        "import torch\ndef loss(outputs, targets):\n"
        "    size = outputs.abs().amax(1)\n"
        "    return torch.where(size > 1.5, torch.nan, size * 0 + 1)\n"
    )
    alpha, found = losses(swept(tmp_path, "far", loss="far:loss"))
    assert found[1] == 1
    assert np.isnan(found[[0, 2]]).any()
    _, before = losses(swept(tmp_path, "near", loss="far:loss", grid={"alpha": [-lower(alpha[2]), lower(alpha[2]), 3]}))
    assert before.tolist() == [1, 1, 1]


def test_a_loss_that_never_rises_is_told_and_gets_a_usual_range(tmp_path, caplog):
    (tmp_path / "flat.py").write_text("def loss(outputs, targets):\n    return outputs.sum(1) * 0 + 2\n")
    alpha, _ = losses(swept(tmp_path, "flat", loss="flat:loss"))
    assert alpha.tolist() == [-1, 0, 1]
    assert "note: grid: alpha -1 to 1: the train loss does not double up to 1000" in caplog.text


@pytest.mark.slow
def test_a_few_examples_that_hold_most_of_the_rise_are_not_missed(tmp_path):
    """The 64 examples that decide at first are none of them; all of them are looked at in the end."""
    (tmp_path / "tail.py").write_text(
        "import torch\nfrom tiny import data\n"
        "def rare(root, split):\n"
        "    inputs, _ = data(root, split, 2000)\n"
        "    targets = torch.zeros(2000)\n"
        "    targets[ROWS] = 1\n"
        "    return inputs, targets\n"
        "def loss(outputs, targets):\n"
        "    return 1 + 0.01 * outputs.square().sum(1) + 1000 * targets * outputs.square().sum(1)\n"
    )
    last = reach.example_order(np.ones(2000), reach.uniforms(0, 2000))[-2:]
    text = (tmp_path / "tail.py").read_text().replace("ROWS", str(last.tolist()))
    (tmp_path / "tail.py").write_text(text)
    torch.save(torch.nn.Linear(4, 3, bias=False).state_dict(), tmp_path / "net.pt")
    tail = {"model__build": "tiny:linear", "data__build": "tail:rare", "loss": "tail:loss"}
    alpha, found = losses(swept(tmp_path, "tail", **tail))
    assert 2 * found[1] <= max(found)
    _, before = losses(swept(tmp_path, "before", **tail, grid={"alpha": [-lower(alpha[2]), lower(alpha[2]), 3]}))
    assert max(before) < 2 * before[1]


@pytest.mark.slow
def test_it_is_fixed_when_the_file_is_created(tmp_path, monkeypatch):
    path = swept(tmp_path, "auto")
    known = results(path)
    with h5py.File(path, "r+") as file:
        file["complete"][()] = 0
        file["status"][1] = 0
    monkeypatch.setattr(reach, "_search", lambda *_: pytest.fail("it was looked for again"))
    assert results(swept(tmp_path, "auto")) == known
    # the same numbers written out are the same experiment, other numbers of points are not
    end = float(losses(path)[0][2])
    assert results(swept(tmp_path, "auto", grid={"alpha": [-end, end, 3]})) == known
    job = tiny_job(tmp_path, "other.yaml", output__file=path.name, **{**LINE, "grid": {"alpha": "auto"}})
    with pytest.raises(UserError, match=r"grid\.alpha: the file has .* and the job says auto"):
        sweep(job, OPTIONS, Solo())


@pytest.mark.slow
def test_shards_have_one_grid_whether_they_see_each_other_or_not(tmp_path, monkeypatch):
    shards = [Options(device="cpu", shard=f"{share}/2") for share in range(2)]
    for share, options in enumerate(shards):
        folder = tmp_path / str(share)
        folder.mkdir()
        swept(folder, "s", options)
    monkeypatch.setattr(reach, "_search", lambda *_: pytest.fail("it was looked for again"))
    swept(tmp_path / "0", "s", shards[1])
    parts = [tmp_path / "0/s.shard-0-of-2.h5", tmp_path / "0/s.shard-1-of-2.h5", tmp_path / "1/s.shard-1-of-2.h5"]
    assert results(parts[1]) == results(parts[2])
    assert attributes(parts[1])["range_alpha_low"] == attributes(parts[0])["range_alpha_low"]
    for other in (parts[1], parts[2]):
        merged = tmp_path / f"{Path(other).parent.name}.h5"
        assert merge(merged, [parts[0], other]).surface.complete
        assert attributes(merged)["range_centre"] == attributes(parts[0])["range_centre"]


@pytest.mark.slow
def test_a_sampled_sweep_goes_on_with_the_range_of_its_file(tmp_path, monkeypatch):
    sampled = {"data__options": {"images": 4000}, "sampling": {"error": 0.05, "audit": 1}, "grid": {"alpha": "auto"}}
    known = results(swept(tmp_path, "auto", **sampled))
    monkeypatch.setattr(reach, "_search", lambda *_: pytest.fail("it was looked for again"))
    assert results(swept(tmp_path, "auto", **sampled)) == known
    end = float(losses(tmp_path / "auto.h5")[0][-1])
    written = {**sampled, "grid": {"alpha": [-end, end, 25]}}
    assert results(swept(tmp_path, "written", **written)) == known


def test_only_the_loss_is_evaluated(tmp_path):
    (tmp_path / "counted.py").write_text(
        "CALLS = []\ndef calls(outputs, targets):\n    CALLS.append(1)\n    return outputs[:, 0]\n"
    )
    counts = []
    for grid in ({"alpha": "auto", "points": 3}, {"alpha": [-2.4, 2.4, 3]}):
        swept(tmp_path, f"s{len(counts)}", grid=grid, metrics=["loss", "counted:calls"])
        calls = sys.modules["counted"].CALLS
        counts.append(len(calls))
        calls.clear()
    assert counts[0] == counts[1]


def test_repeats_have_one_grid(tmp_path):
    job = tiny_job(tmp_path, output__file="s.h5", **LINE, plane={"kind": "random", "repeats": 2})
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    grids = [losses(tmp_path / f"s.r{repeat}.h5")[0].tobytes() for repeat in range(2)]
    assert grids[0] == grids[1]
    (tmp_path / "s.r1.h5").unlink()
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    assert losses(tmp_path / "s.r1.h5")[0].tobytes() == grids[0]


@pytest.mark.parametrize("kind", ["hessian", "file", "worst"])
def test_other_symmetric_planes_have_ranges_too(tmp_path, kind, monkeypatch):
    first = swept(tmp_path, "first", plane={"kind": "random" if kind == "file" else kind})
    alpha, found = losses(first)
    assert max(found) >= found[1] + 1
    if kind == "file":
        again = losses(swept(tmp_path, "again", plane={"kind": "file", "path": "first.h5"}))
        assert [part.tobytes() for part in again] == [part.tobytes() for part in (alpha, found)]
    monkeypatch.setattr(reach, "_search", lambda *_: pytest.fail("it was looked for again"))
    job = tmp_path / "first.yaml"
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE


def test_a_loss_that_cannot_double_is_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "nothing.py").write_text("def loss(outputs, targets):\n    return outputs.sum(1) * 0\n")
    job = tiny_job(tmp_path, **{**LINE, "loss": "nothing:loss"})
    with pytest.raises(UserError, match=r"grid\.alpha: found auto, and the mean train loss at theta\* is 0; expected"):
        sweep(job, OPTIONS, Solo())
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.slow
def test_check_looks_for_no_range_and_shows_what_a_file_has(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "_search", lambda *_: pytest.fail("it was looked for"))
    job = tiny_job(tmp_path, **{**LINE, "grid": "auto"})
    text = check(job, "cpu")
    assert "grid               auto: as far as the loss rises by 1 nat" in text
    assert "points             625 (25 x 25)" in text
    monkeypatch.undo()
    path = swept(tmp_path, "auto")
    shutil.move(tmp_path / "auto.yaml", job)
    end = losses(path)[0][2]
    assert f"grid               alpha {-end:g} to {end:g} in 3 points" in check(job, "cpu")
