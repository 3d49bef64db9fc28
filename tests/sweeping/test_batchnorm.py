"""Running statistics that stay, that move along with the parameters, or that are estimated anew at every point."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from landscape_mpi.data.split import batches
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks.state import estimating
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping.check import check
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

pytestmark = pytest.mark.usefixtures("lines_on_stderr")

NORMED = {"model__options": {"batchnorm": True}}
ENDS = {"kind": "interpolate", "to": "to.pt", "via": "via.pt"}
LINE = {"plane": {"kind": "interpolate", "to": "to.pt"}, "grid": {"alpha": [-0.5, 1.5, 5]}, **NORMED}
ALPHAS = [-0.5, 0.0, 0.5, 1.0, 1.5]
SQUARE = {"plane": ENDS, "grid": {"alpha": [0, 1, 3], "beta": [0, 1, 3]}, **NORMED}


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    """Three networks that have seen other data each."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("net", "to", "via")):
        torch.manual_seed(seed)
        network = tiny.network(batchnorm=True).train()
        for _ in range(20):
            network((1 + seed) * torch.randn(64, 4) + seed)
        torch.save(network.state_dict(), f"{name}.pt")


def run(job, name="surface.h5", **options):
    assert sweep(job, Options(device="cpu", **options), Solo()) == Exit.COMPLETE
    with h5py.File(job.parent / name) as file:
        return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}


def exactly(policy):
    return {"batchnorm": policy, "dtype": "float64"}


def state(name):
    return torch.load(f"{name}.pt", weights_only=True)


def mixed(**weights):
    """A weighted mean of state dicts as a network in float64; variances below 0 are 0."""
    states = {name: state(name) for name in weights}
    mean = {key: sum(weight * states[name][key].double() for name, weight in weights.items()) for key in states["net"]}
    mean["1.running_var"].clamp_(min=0)
    network = tiny.network(batchnorm=True).double().eval()
    network.load_state_dict(mean)
    return network


def loss(network, split, images=40):
    inputs, classes = tiny.data(None, split, images)
    with torch.no_grad():
        return nn.functional.cross_entropy(network(inputs.double()), classes).item()


def updated(network, inputs):
    """The network with the statistics that torch's own `update_bn` gives it, by batches of 100."""
    update_bn([inputs[cut].double() for cut in batches(len(inputs), 100)], network)
    return network.eval()


@pytest.mark.slow
def test_moved_statistics_are_those_of_the_averaged_state_dict(tmp_path):
    found = run(tiny_job(tmp_path, **LINE, evaluate=exactly("move")))
    for ix, alpha in enumerate(ALPHAS):
        for split in ("train", "test"):
            exact = loss(mixed(net=1 - alpha, to=alpha), split)
            assert found[f"{split}_loss"][ix] == pytest.approx(exact, rel=1e-6)
    kept = run(tiny_job(tmp_path, **LINE, evaluate=exactly("keep")), overwrite=True)
    assert kept["train_loss"][1] == found["train_loss"][1]
    assert abs(kept["train_loss"][2] / found["train_loss"][2] - 1) > 1e-3


def test_keeping_them_between_checkpoints_is_warned_of(tmp_path, capsys):
    for policy, warned in [("keep", True), ("move", False), ("recompute", False)]:
        check(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": policy}), "cpu")
        assert ("note: evaluate.batchnorm is keep: plane.to" in capsys.readouterr().err) == warned


def test_on_a_plane_they_move_both_ways(tmp_path):
    found = run(tiny_job(tmp_path, **SQUARE, evaluate=exactly("move")))
    for iy, beta in enumerate([0.0, 0.5, 1.0]):
        for ix, alpha in enumerate([0.0, 0.5, 1.0]):
            exact = loss(mixed(net=1 - alpha - beta, to=alpha, via=beta), "train")
            assert found["train_loss"][iy, ix] == pytest.approx(exact, rel=1e-6)


def test_variances_that_would_be_negative_are_held_at_0_and_the_point_says_so(tmp_path):
    found = run(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": "move"}))
    net, to = (state(name)["1.running_var"] for name in ("net", "to"))
    negative = int((net - 0.5 * (to - net) < 0).sum())
    assert negative > 0
    assert found["error"][0].decode() == f"{negative} running variances held at 0"
    assert not any(found["error"][1:4])
    assert np.isfinite(found["train_loss"]).all()
    assert f"such as: {negative} running variances held at 0" in describe(tmp_path / "surface.h5")


@pytest.mark.slow
def test_the_file_holds_their_directions_and_makes_the_same_surface_again(tmp_path):
    run(tiny_job(tmp_path, **SQUARE, evaluate={"batchnorm": "move"}, output__file="first.h5"), "first.h5")
    with h5py.File("first.h5") as file:
        for group, end in (("xbuffers", "to"), ("ybuffers", "via")):
            assert [item.attrs["name"] for item in file[group].values()] == ["1.running_mean", "1.running_var"]
            for item in file[group].values():
                name = item.attrs["name"]
                np.testing.assert_array_equal(item[()], (state(end)[name] - state("net")[name]).numpy())
    again = {**SQUARE, "plane": {"kind": "file", "path": "first.h5"}}
    run(tiny_job(tmp_path, **again, evaluate={"batchnorm": "move"}))
    assert results(tmp_path / "surface.h5") == results(tmp_path / "first.h5")


def test_a_states_file_of_the_papers_code_moves_them_too(tmp_path):
    found = run(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": "move"}))
    with h5py.File("states.h5", "w") as file:
        for i, (name, tensor) in enumerate(state("to").items()):
            file[f"xdirection/{i}"] = (tensor - state("net")[name]).numpy()
    theirs = {**LINE, "plane": {"kind": "file", "path": "states.h5"}}
    again = run(tiny_job(tmp_path, **theirs, evaluate={"batchnorm": "move"}, output__file="again.h5"), "again.h5")
    np.testing.assert_array_equal(again["train_loss"], found["train_loss"])


def test_a_file_of_weights_alone_cannot_move_them(tmp_path):
    run(tiny_job(tmp_path, **LINE, output__file="kept.h5"), "kept.h5")
    job = tiny_job(tmp_path, **{**LINE, "plane": {"kind": "file", "path": "kept.h5"}}, evaluate={"batchnorm": "move"})
    with pytest.raises(UserError, match=r"kept\.h5 does not say which way the running statistics move"):
        run(job)


def test_other_ends_of_the_statistics_are_another_plane(tmp_path):
    job = tiny_job(tmp_path, **LINE, evaluate={"batchnorm": "move"})
    run(job)
    other = state("to")
    other["1.running_mean"] += 1
    torch.save(other, "to.pt")
    with pytest.raises(UserError, match="plane_sha256 differs"):
        run(job)


def test_recomputed_statistics_are_those_of_update_bn(tmp_path):
    images = {"data__options": {"images": 250}}
    found = run(tiny_job(tmp_path, **LINE, **images, evaluate=exactly("recompute")))
    inputs, _ = tiny.data(None, "train", 250)
    for ix, alpha in enumerate(ALPHAS):
        network = updated(mixed(net=1 - alpha, to=alpha), inputs)
        assert found["train_loss"][ix] == pytest.approx(loss(network, "train", 250), rel=1e-6)
        assert found["test_loss"][ix] == pytest.approx(loss(network, "test", 250), rel=1e-6)


def test_recomputed_statistics_take_the_first_1000_training_examples_though_they_are_not_evaluated(tmp_path):
    data = {"build": "tiny:data", "options": {"images": 1200}, "splits": ["test"]}
    found = run(tiny_job(tmp_path, **LINE, data=data, evaluate=exactly("recompute")))
    assert "train_loss" not in found
    network = updated(mixed(net=1), tiny.data(None, "train", 1200)[0][:1000])
    assert found["test_loss"][1] == pytest.approx(loss(network, "test", 1200), rel=1e-6)
    told = describe(tmp_path / "surface.h5")
    assert "  batch norm         recompute\n    from examples    1000\n" in told


@pytest.mark.slow
def test_recomputed_statistics_do_not_depend_on_those_of_the_checkpoint_or_the_batch(tmp_path):
    first = run(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": "recompute"}))
    forgotten = state("net")
    forgotten["1.running_var"] *= 100
    torch.save(forgotten, "net.pt")
    again = run(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": "recompute", "batch": 17}), overwrite=True)
    np.testing.assert_allclose(again["train_loss"], first["train_loss"], rtol=1e-6)


@pytest.mark.slow
def test_a_sampled_sweep_recomputes_them_as_a_full_one_does(tmp_path):
    changes = {**LINE, "grid": {"alpha": [-0.5, 1.5, 9]}, "data__options": {"images": 3000}}
    full = run(tiny_job(tmp_path, **changes, evaluate={"batchnorm": "recompute"}), overwrite=True)
    sampling = {"error": 0.05, "audit": 3}
    found = run(tiny_job(tmp_path, **changes, evaluate={"batchnorm": "recompute"}, sampling=sampling), overwrite=True)
    assert found["train_examples"].min() < 3000
    whole = found["train_examples"] == 3000
    assert whole.sum() >= 3
    np.testing.assert_allclose(found["train_loss"][whole], full["train_loss"][whole], rtol=1e-6)
    assert (np.abs(found["train_loss"] - full["train_loss"]) <= 2 * found["train_loss_bar"] + 1e-6).all()


def test_estimating_leaves_the_modes_of_all_layers_as_they_were():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    inputs = torch.randn(50, 3) + 1
    with estimating(network):
        assert [module.training for module in network] == [True, False, False]
        network(inputs)
    assert [module.training for module in network] == [False] * 3
    assert network[0].momentum == 0.1
    torch.testing.assert_close(network[0].running_mean, inputs.mean(0))


def test_check_says_what_becomes_of_batch_norm(tmp_path):
    for policy, words in [
        ("keep", "running statistics of the checkpoint"),
        ("move", "running statistics move along with the parameters"),
        ("recompute", "running statistics estimated at every point, from 40 training examples"),
    ]:
        told = check(tiny_job(tmp_path, **LINE, evaluate={"batchnorm": policy}), "cpu")
        assert f"batch norm         {words}\n" in told
