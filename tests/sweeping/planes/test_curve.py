"""Curves between two networks: valleys whose course is known, the networks at both ends, and trainings that go on."""

import h5py
import numpy as np
import pytest
import torch
from msgspec import structs
from torch import nn

import landscape_mpi
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.shutdown import Interrupted
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plane import Plane
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.planes import bend
from landscape_mpi.sweeping.planes.build import build_plane
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

CURVE = {"kind": "curve", "to": "to.pt", "steps": 30, "batch": 16}
LINE, BOTH = {"alpha": [0, 1, 5]}, {"alpha": [0, 1, 5], "beta": [0, 1, 2]}


class Place(nn.Module):
    """A network of two parameters, which it returns for every example."""

    def __init__(self, x, y):
        super().__init__()
        self.place = nn.Parameter(torch.tensor([x, y]))

    def forward(self, inputs):
        return self.place.expand(len(inputs), 2)


def ring(outputs, _):
    """0 on the circle of radius 1, and 1 in its middle."""
    return (outputs.square().sum(1) - 1).square()


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """theta*, and another network in `to.pt`."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    torch.save(tiny.network().state_dict(), "to.pt")


def built(folder, grid=LINE, *, steps=None, **plane):
    """The plane of the tiny network, and what is recorded of it; `steps`: also those that no job may ask for."""
    job = load_job(tiny_job(folder, plane={**CURVE, **plane}, grid=grid), SweepJob)
    if steps is not None:
        values = structs.replace(job.values, plane=structs.replace(job.values.plane, steps=steps))
        job = structs.replace(job, values=values)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())
    _, found, identity = build_plane(Solo(), experiment, 0, None)
    return found, identity.facts


def run(folder, name="surface.h5", options=Options(device="cpu"), **changes):  # noqa: B008 - frozen
    plane = {**CURVE, **changes.pop("plane", {})}
    changes = {"grid": LINE, "loss": "cross_entropy", **changes}
    job = tiny_job(folder, f"{name}.yaml", plane=plane, output__file=name, **changes)
    assert sweep(job, options, Solo()) == Exit.COMPLETE
    return results(folder / name)


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_a_ring_has_a_barrier_across_and_hardly_one_along(kind):
    plane = {"kind": "curve", "to": Place(-1.0, 0.3), "curve": kind, "coordinates": "curve"}
    plane |= {"steps": 600, "lr": 0.05}
    data = (torch.zeros(8, 1), torch.zeros(8))
    grid = {"alpha": [0, 1, 11], "beta": [0, 1, 2]}
    surface = landscape_mpi.sweep(Place(1.0, 0.0), ring, data, plane=plane, grid=grid, quiet=True)
    assert surface.barrier("train").height == pytest.approx(0.95, abs=0.01)
    assert surface.barrier("train", beta=1.0).height < {"bezier": 0.05, "polygon": 0.4}[kind]
    with pytest.raises(UserError, match="sharpness: alpha goes along a curve"):
        surface.sharpness()
    with pytest.raises(UserError, match="no points lie at alpha 0 and alpha 1"):
        surface.barrier("train", beta=0.5)


def test_a_bend_that_is_not_trained_lies_on_the_straight_line(ends, tmp_path):
    found, facts = built(tmp_path, steps=0)
    straight = Plane(found.theta, found.directions[:1])
    for t in (0.0, 0.3, 0.5):
        assert all(torch.equal(tensor, straight.at(t)[name]) for name, tensor in found.at(t).items())
    assert (facts["bend_alpha"], facts["bend_beta"]) == (0.5, 0.0)


@pytest.mark.parametrize("kind", ["bezier", "polygon"])
def test_both_ends_are_the_networks_to_the_bit_and_the_plane_holds_the_curve(ends, tmp_path, kind):
    along, facts = built(tmp_path, curve=kind)
    flat, again = built(tmp_path, {"alpha": [0, 1, 3], "beta": [0, 1, 3]}, curve=kind)
    assert facts == again
    for plane, first, last in ((along, (0.0,), (1.0,)), (flat, (0.0, 0.0), (1.0, 0.0))):
        for point, name in ((first, "net.pt"), (last, "to.pt")):
            state = torch.load(name, weights_only=True)
            assert all(torch.equal(tensor, state[name]) for name, tensor in plane.at(*point).items())
    assert flat.norms[0] == pytest.approx(flat.norms[1], rel=1e-6)
    assert flat.cosine(0, 1) == pytest.approx(0, abs=1e-6)
    assert facts["bend_beta"] > 1e-3
    middle = 0.5 if kind == "bezier" else 1.0  # the weight of the bend there
    in_plane = 0.5 + middle * (facts["bend_alpha"] - 0.5), middle * facts["bend_beta"]
    for name, tensor in along.at(0.5).items():
        torch.testing.assert_close(tensor, flat.at(*in_plane)[name], rtol=1e-5, atol=1e-6)


def test_a_sweep_along_it_has_the_straight_line_beside_it(ends, tmp_path):
    run(tmp_path, "both.h5", grid=BOTH, plane={"coordinates": "curve"})
    run(tmp_path, "curve.h5")
    plane = {"kind": "interpolate", "to": "to.pt"}
    job = tiny_job(tmp_path, plane=plane, grid=LINE, loss="cross_entropy", output__file="straight.h5")
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    losses = {}
    for name in ("both", "curve", "straight"):
        with h5py.File(f"{name}.h5") as file:
            losses[name] = file["test_loss"][()]
    np.testing.assert_allclose(losses["both"], [losses["straight"], losses["curve"]], rtol=1e-6)
    assert losses["both"][1, 1:-1].sum() < losses["both"][0, 1:-1].sum()
    for name, has in (("both", False), ("curve", False), ("straight", True)):
        assert ("radius" in describe(tmp_path / f"{name}.h5")) is has


def test_to_a_shuffled_copy_it_is_the_aligned_curve(ends, tmp_path):
    """The order of the units changes nothing where `align` puts it right, and the whole curve where nothing does."""
    other, order = torch.load("to.pt", weights_only=True), torch.tensor([3, 7, 1, 0, 6, 2, 5, 4])
    hidden = {name: other[name][order] for name in ("0.weight", "0.bias")}
    torch.save({**other, **hidden, "2.weight": other["2.weight"][:, order]}, "shuffled.pt")
    losses = {}
    for to in ("to.pt", "shuffled.pt"):
        for align in ("auto", None):
            run(tmp_path, "surface.h5", Options(device="cpu", overwrite=True), grid=BOTH, plane={
                "coordinates": "curve", "to": to, "align": align,
            })  # fmt: skip
            with h5py.File("surface.h5") as file:
                losses[to, align] = file["test_loss"][()]
                moved = file.attrs.get("align_moved")
            assert (moved is None) is (align is None)
    np.testing.assert_allclose(losses["shuffled.pt", "auto"], losses["to.pt", "auto"], rtol=1e-5)
    assert np.abs(losses["shuffled.pt", None] - losses["to.pt", None]).max() > 1e-2


def test_what_is_kept_of_a_training_goes_on_with_the_same_bits(ends, tmp_path, monkeypatch):
    run(tmp_path, "whole.h5")
    take, taken = bend.Trainer.take, []

    def stopping(self, state):
        if len(taken) == 11:
            raise Interrupted("SIGTERM")
        taken.append(state.step)
        take(self, state)

    monkeypatch.setattr(bend.Trainer, "take", stopping)
    with pytest.raises(Interrupted):
        run(tmp_path)
    assert not (tmp_path / "surface.h5").exists()
    monkeypatch.setattr(bend.Trainer, "take", lambda self, state: (taken.append(state.step), take(self, state)))
    assert run(tmp_path) == results(tmp_path / "whole.h5")
    assert taken == list(range(30))


def test_a_surface_is_gone_on_with_without_another_training(ends, tmp_path, monkeypatch):
    before = run(tmp_path)
    bend.keep_path(tmp_path / "surface.h5").unlink()
    with h5py.File("surface.h5", "r+") as file:
        file["status"][1:3], file["complete"][()] = 0, 0
    monkeypatch.setattr(bend.Trainer, "take", None)
    assert run(tmp_path) == before


@pytest.mark.parametrize("kept", [b"", b"no safetensors at all", "other"])
def test_what_is_kept_of_something_else_is_replaced(ends, tmp_path, kept, caplog):
    path = bend.keep_path(tmp_path / "surface.h5")
    expected = run(tmp_path)
    (tmp_path / "surface.h5").unlink()
    if kept == "other":
        run(tmp_path, plane={"seed": 1})
        (tmp_path / "surface.h5").unlink()
    else:
        path.write_bytes(kept)
    assert run(tmp_path) == expected
    assert f"{path.name}: it " in caplog.text


def test_shards_have_one_curve(ends, tmp_path):
    whole = run(tmp_path, "whole.h5")
    for shard in ("0/2", "1/2"):
        job = tiny_job(tmp_path, plane=CURVE, grid=LINE, loss="cross_entropy")
        assert sweep(job, Options(device="cpu", shard=shard), Solo()) == Exit.COMPLETE
    merge(tmp_path / "surface.h5", [tmp_path / f"surface.shard-{i}-of-2.h5" for i in range(2)])
    assert results(tmp_path / "surface.h5") == whole


def test_batch_norm_learns_with_the_statistics_that_the_sweep_estimates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("net.pt", "to.pt")):
        torch.manual_seed(seed)
        network = tiny.network(batchnorm=True)
        network(torch.randn(200, 4) * 3 + seed)
        torch.save(network.state_dict(), name)
    plane = {"steps": 200, "lr": 0.2, "coordinates": "curve"}
    changes = {"model__options": {"batchnorm": True}, "plane": plane}
    changes["grid"] = {"alpha": [0, 1, 9], "beta": [0, 1, 2]}
    said = {}
    for policy in ("keep", "recompute"):
        run(tmp_path, f"{policy}.h5", evaluate={"batchnorm": policy}, **changes)
        said[policy] = describe(tmp_path / f"{policy}.h5")
        with h5py.File(f"{policy}.h5") as file:
            losses, batches = file["train_loss"][()], file.attrs["curve_loss"]
        # the mean along the curve, by what is evaluated and by what was learned
        straight, bent = (np.trapezoid(line, dx=1 / 8) for line in losses)
        assert batches == pytest.approx(bent, rel=0.25)
        assert bent < straight
    for text in ("straight barrier", "curve's barrier", "steps of the bend"):
        assert text in said["recompute"]


def test_check_says_what_the_training_takes_and_trains_nothing(ends, tmp_path, monkeypatch):
    monkeypatch.setattr(bend.Trainer, "take", None)
    assert "bend still to be found" in check(tiny_job(tmp_path, plane=CURVE, grid=LINE), "cpu")
    assert not bend.keep_path(tmp_path / "surface.h5").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"plane": {"to": "net.pt"}}, r"plane\.to: net\.pt holds what model\.checkpoint holds"),
        ({"plane": {"steps": 0}}, r"plane\.steps: found 0; expected .*>= 1"),
        ({"plane": {"bends": 2}}, r"plane\.bends: found 2; expected .*1"),
        ({"plane": {"lr": 1e30}}, r"plane\.lr: with 1e\+30 the loss became (nan|inf) at step \d+"),
        ({"plane": {"coordinates": "curve"}}, r"plane\.coordinates: found curve, and without grid\.beta"),
        ({"grid": {"alpha": "auto"}}, r"grid\.alpha: found auto, and the networks of plane\.kind curve lie at 0 and 1"),
        ({"model__options": {"width": 9}}, r"model\.checkpoint: .*width|model\.checkpoint.*shape"),
        ({"evaluate": {"batchnorm": "move"}}, r"found move, and plane\.kind curve has no directions"),
        ({"evaluate": {"weights": "streamed"}}, r"plane\.kind: found curve, and networks of 256 MB"),
    ],
)
def test_refused(ends, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        run(tmp_path, **changes)
    assert not (tmp_path / "surface.h5").exists()


def test_a_network_of_another_shape_is_refused_at_the_other_end(ends, tmp_path):
    torch.save(tiny.network(width=9).state_dict(), "to.pt")
    with pytest.raises(UserError, match=r"plane\.to"):
        run(tmp_path)
