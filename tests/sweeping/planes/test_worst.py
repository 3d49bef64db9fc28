"""Planes of the steepest ascent: the normalised gradient, its steps, what changes no bit of it, and refusals."""

import re
from dataclasses import replace

import h5py
import pytest
import torch
from torch import nn

from landscape_mpi.errors import Exit, UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import RandomDirections
from landscape_mpi.surface.merge import merge
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.memory import Gradient, Room
from landscape_mpi.sweeping.planes import worst
from landscape_mpi.sweeping.planes.build import build_plane
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

OPTIONS = Options(device="cpu")
LINE = {"grid": {"alpha": [-1, 1, 5]}}


def experiment(folder, plane, **changes):
    job = load_job(tiny_job(folder, plane={"kind": "worst", **plane}, **changes), SweepJob)
    return load_experiment(job, JobSource(job), "cpu", Solo())


def built(folder, changes=LINE, **plane):
    """The plane, and the numbers that are kept of the search."""
    _, found, identity = build_plane(Solo(), experiment(folder, plane, **changes), 0, None)
    return found, identity.facts


def loss_of(theta, examples=None):
    """The mean training loss of the tiny network at some parameters, in float64."""
    inputs, classes = tiny.data(None, "train")
    hidden = torch.relu(inputs[:examples].double() @ theta["0.weight"].T + theta["0.bias"])
    return nn.functional.cross_entropy(hidden @ theta["2.weight"].T + theta["2.bias"], classes[:examples])


def gradient(theta, examples=None):
    leaves = {name: tensor.double().requires_grad_() for name, tensor in theta.items()}
    return dict(zip(leaves, torch.autograd.grad(loss_of(leaves, examples), list(leaves.values())), strict=True))


def away(plane, alpha):
    return float(loss_of({name: t.double() + alpha * plane.directions[0][name] for name, t in plane.theta.items()}))


def test_each_filter_has_the_way_of_the_gradient_and_the_norm_of_theta(tmp_path):
    plane, facts = built(tmp_path, examples=33)
    expected = gradient(plane.theta, 33)
    for name, d in plane.directions[0].items():
        theta = plane.theta[name].double()
        if theta.dim() < 2:
            assert not d.any()
        else:
            way = expected[name] / expected[name].norm(dim=1, keepdim=True)
            torch.testing.assert_close(d.double(), way * theta.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    slope = sum(float((expected[name] * d).sum()) for name, d in plane.directions[0].items())
    assert facts == {"worst_slope": pytest.approx(slope, rel=1e-4)}


def test_more_steps_climb_higher_at_their_radius(tmp_path):
    radius = 0.5
    one, _ = built(tmp_path)
    several, facts = built(tmp_path, steps=6, radius=radius)
    assert away(several, radius) > away(one, radius) > away(one, 0.0)
    assert facts["worst_rise"] == pytest.approx(away(several, radius) - away(one, 0.0), rel=1e-4)
    for name, tensor in several.theta.items():
        if tensor.dim() > 1:  # alpha stays the same unit
            torch.testing.assert_close(several.directions[0][name].norm(dim=1), tensor.norm(dim=1))


def test_further_axes_are_those_of_random_planes(tmp_path):
    plane, _ = built(tmp_path, {"grid": {"alpha": [0, 1, 2], "beta": [0, 1, 2], "gamma": [0, 1, 2]}}, seed=4)
    for axis in (1, 2):
        drawn = RandomDirections(4, "filter", "biasbn").draw(plane.theta, axis)
        assert all(torch.equal(drawn[name], d) for name, d in plane.directions[axis].items())


def test_the_batch_of_the_sweep_changes_no_bit(tmp_path):
    prints = [built(tmp_path, {**LINE, "evaluate": {"batch": batch}})[0].fingerprint() for batch in (3, 40)]
    assert prints[0] == prints[1]


@pytest.mark.slow
def test_a_sweep_goes_on_along_the_direction_that_it_has_stored(tmp_path, monkeypatch):
    changes = {"grid": {"alpha": [-1, 1, 3], "beta": [0, 1, 2]}, "plane": {"kind": "worst", "steps": 2, "radius": 0.1}}
    job = tiny_job(tmp_path, **changes)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    whole = results(tmp_path / "surface.h5")
    with h5py.File(tmp_path / "surface.h5", "r+") as file:
        assert file.attrs["worst_rise"] > 0
        file["status"][1, 1] = 0
        file["train_loss"][1, 1] = float("nan")
        file["complete"][...] = 0
    monkeypatch.setattr("landscape_mpi.sweeping.planes.worst.steepest", lambda *_: pytest.fail("a search began"))
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    assert results(tmp_path / "surface.h5") == whole


@pytest.mark.slow
def test_shards_find_the_same_plane_and_merge(tmp_path):
    job = tiny_job(tmp_path, plane={"kind": "worst"}, **LINE)
    assert sweep(job, OPTIONS, Solo()) == Exit.COMPLETE
    whole = results(tmp_path / "surface.h5")
    for shard in range(2):
        assert sweep(job, Options(device="cpu", shard=f"{shard}/2"), Solo()) == Exit.COMPLETE
    merge(tmp_path / "merged.h5", sorted(tmp_path.glob("surface.shard-*.h5")))
    assert results(tmp_path / "merged.h5") == whole


def test_check_searches_for_nothing_and_says_what_the_search_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("landscape_mpi.sweeping.planes.worst.steepest", lambda *_: pytest.fail("a search began"))
    said = check(tiny_job(tmp_path, plane={"kind": "worst", "steps": 3, "radius": 1.0}, **LINE), "cpu")
    assert re.search(r"plane +worst, steepest ascent still to be found", said)
    assert re.search(r"plane takes +about .*, before the first point; all ranks share it", said)


@pytest.mark.parametrize("large", [False, True], ids=["copied", "large"])
def test_a_loss_without_a_gradient_is_refused(tmp_path, monkeypatch, large):
    if large:
        monkeypatch.setattr("landscape_mpi.sweeping.large.LARGE", 1)
    (tmp_path / "cut_off.py").write_text(
        "import tiny\ndef detached(outputs, targets): return tiny.cross_entropy(outputs.detach(), targets)\n"
    )
    with pytest.raises(UserError, match=r"plane\.kind: found worst, and the loss has no gradient at theta\*"):
        built(tmp_path, {**LINE, "loss": "cut_off:detached"})
    assert not (tmp_path / "surface.h5").exists()


def test_a_parameter_whose_part_of_the_gradient_is_missing_is_named(tmp_path):
    (tmp_path / "half_trained.py").write_text(
        "from torch import nn\n"
        "class Half(nn.Sequential):\n"
        "    def forward(self, x): return self[2](self[1](self[0](x)).detach())\n"
        "def network(): return Half(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))\n"
    )
    with pytest.raises(UserError, match=r"the loss depends on `0\.weight`, of which torch finds no gradient"):
        built(tmp_path, {**LINE, "model__build": "half_trained:network"})
    plane, _ = built(tmp_path, {**LINE, "model__build": "half_trained:network"}, only=["2.*"])
    assert plane.norms[0] > 0


def test_a_large_network_has_the_direction_of_a_small_one(tmp_path, monkeypatch):
    small, expected = built(tmp_path, steps=3, radius=0.2)
    monkeypatch.setattr("landscape_mpi.sweeping.large.LARGE", 1)
    large = experiment(tmp_path, {"steps": 3, "radius": 0.2}, **LINE)
    assert large.theta.is_large
    _, found, identity = build_plane(Solo(), large, 0, None)
    assert identity.facts == pytest.approx(expected, rel=1e-5)
    for name, d in small.directions[0].items():
        torch.testing.assert_close(found.directions[0][name], d, rtol=1e-4, atol=1e-6)


def test_streamed_weights_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"evaluate\.weights: found streamed, and plane\.kind needs the whole network"):
        experiment(tmp_path, {}, **LINE, evaluate__weights="streamed")


def test_a_gradient_without_room_is_refused_with_the_arithmetic():
    gradient = Gradient.of([torch.zeros(10**6), torch.zeros(500_000, dtype=torch.complex64)], 4)
    assert (gradient.each, gradient.once) == (8 * 10**6, 16 * 10**6)
    room = Room("n", "this node", 50 * 10**6)
    gradient.check(8 * 10**6, 2, room)
    with pytest.raises(UserError) as refused:
        gradient.check(8 * 10**6, 3, room)
    assert str(refused.value) == (
        "plane.kind: found worst, which takes a gradient of 0.008 GB per rank beside weights of 0.008 GB, and 0.016 GB "
        "for its sum in float64: 0.064 GB for 3 ranks, and this node has 0.05 GB free; expected room for them: at most "
        "2 ranks per node or let fewer parameters move, by plane.only."
    )
    gradient.check(0, 6, replace(room, unit="device"))


def test_check_says_what_the_gradient_takes_and_both_refuse_it_without_room(tmp_path, monkeypatch):
    job = tiny_job(tmp_path, plane={"kind": "worst"}, **LINE)
    assert "KB per rank for a gradient and " in check(job, "cpu")
    small = Room("n", "this node", 100)
    monkeypatch.setattr(worst, "room_of", lambda *_: small)
    with pytest.raises(UserError, match="which takes a gradient of"):
        sweep(job, Options(device="cpu"), Solo())
    assert not (tmp_path / "surface.h5").exists()
