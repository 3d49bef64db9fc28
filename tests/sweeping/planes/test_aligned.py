"""Interpolations whose ends are permuted to match theta*: to a shuffled copy of theta* nothing happens on the way."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import landscape_mpi
from landscape_mpi.align import Match, match, structure_of
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks.state import statistics_of
from landscape_mpi.surface.merge import merge
from landscape_mpi.surface.status import describe
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.planes import aligned
from landscape_mpi.sweeping.run import sweep
from support import tiny
from support.jobs import results, tiny_job

LINE = {"alpha": [0, 1, 5]}


def shuffled(network, inputs):
    """The tensors of a network with its hidden units in another order."""
    names = frozenset({name for name, _ in network.named_parameters()} | set(statistics_of(network)))
    structure = structure_of(network, lambda module, given: module(given), inputs, names)
    orders = {group: torch.arange(group.size).roll(3) for group in structure.groups}
    assert orders
    return Match(structure, orders, 0.0, 0.0).apply({name: t.clone() for name, t in network.state_dict().items()})


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """theta*, with batch norm that has seen something, and `to.pt`, which is theta* with its units in another order."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = tiny.network(batchnorm=True)
    network(torch.randn(200, 4) * 3 + 1)
    torch.save(network.state_dict(), "net.pt")
    torch.save(shuffled(network.eval(), torch.randn(2, 4)), "to.pt")
    return network


def run(folder, name="surface.h5", **changes):
    plane = {"kind": "interpolate", "to": "to.pt", "align": "auto", **changes.pop("plane", {})}
    changes = {"model__options": {"batchnorm": True}, "grid": LINE, **changes}
    job = tiny_job(folder, f"{name}.yaml", plane=plane, output__file=name, **changes)
    assert sweep(job, Options(device="cpu"), Solo()) == Exit.COMPLETE
    with h5py.File(folder / name) as file:
        return file["test_loss"][()], dict(file.attrs)


@pytest.mark.slow
@pytest.mark.parametrize("batchnorm", ["keep", "move", "recompute"])
def test_the_way_to_a_shuffled_copy_is_the_way_before_it_was_shuffled(pair, tmp_path, batchnorm):
    with pytest.raises(UserError, match=r"holds what model\.checkpoint holds"):
        run(tmp_path, evaluate={"batchnorm": batchnorm})
    for name, start in (("to.pt", "to.pt"), ("plain.pt", "net.pt")):
        other = torch.load(start, weights_only=True)
        other["3.bias"] += torch.tensor([1.0, 0.0, 0.0])
        torch.save(other, name)
    losses, attributes = run(tmp_path, evaluate={"batchnorm": batchnorm})
    expected, _ = run(tmp_path, "plain.h5", plane={"align": None, "to": "plain.pt"}, evaluate={"batchnorm": batchnorm})
    straight, _ = run(tmp_path, "straight.h5", plane={"align": None}, evaluate={"batchnorm": batchnorm})
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert np.abs(straight[1:-1] - expected[1:-1]).max() > 1e-3
    assert attributes["align_units"] == attributes["align_moved"] == 8
    assert attributes["align_after"] < 1e-5 < attributes["align_before"]
    assert "distance, aligned" in describe(tmp_path / "surface.h5")


@pytest.mark.slow
def test_it_is_gone_on_with_and_is_another_experiment_than_the_straight_line(pair, tmp_path):
    torch.manual_seed(1)
    torch.save(tiny.network(batchnorm=True).state_dict(), "to.pt")
    run(tmp_path)
    before = results(tmp_path / "surface.h5")
    with h5py.File("surface.h5", "r+") as file:
        file["status"][1:3], file["complete"][()] = 0, 0
    run(tmp_path)
    assert results(tmp_path / "surface.h5") == before
    with pytest.raises(UserError, match=r"plane\.align: the file has auto and the job says None"):
        run(tmp_path, plane={"align": None})


def test_shards_of_an_aligned_line_with_its_spectrum_merge_into_the_same_bits(pair, tmp_path):
    torch.manual_seed(1)
    torch.save(tiny.network(batchnorm=True).state_dict(), "to.pt")
    asked = {"metrics": ["loss", "spectrum"], "hessian": {"probes": 3, "steps": 4}, "grid": {"alpha": [0, 1, 3]}}
    _, attributes = run(tmp_path, **asked)
    assert attributes["align_moved"] > 0
    for index in range(2):
        options = Options(device="cpu", shard=f"{index}/2")
        assert sweep(tmp_path / "surface.h5.yaml", options, Solo()) == Exit.COMPLETE
    merged = merge(tmp_path / "merged.h5", [tmp_path / f"surface.shard-{index}-of-2.h5" for index in range(2)])
    assert merged.surface.complete
    assert results(tmp_path / "merged.h5") == results(tmp_path / "surface.h5")
    with h5py.File("merged.h5") as ours, h5py.File("surface.h5") as whole:
        for place in whole["xdirection"]:
            np.testing.assert_array_equal(ours["xdirection"][place][()], whole["xdirection"][place][()])


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(1).values


def test_from_python_between_networks_and_refused_where_not_understood(capsys):
    torch.manual_seed(0)
    one, data = tiny.network(), tiny.data(None, "train")
    other = tiny.network()
    other.load_state_dict(shuffled(one, torch.randn(2, 4)))
    with torch.no_grad():
        other[2].bias[0] += 0.1
    plane = {"kind": "interpolate", "to": other, "align": "auto"}
    surface = landscape_mpi.sweep(one, "cross_entropy", data, plane=plane, grid=5)
    assert surface.barrier().height < 0.01
    assert "8 of 8 units of other are put at other places" in capsys.readouterr().err
    assert surface.barrier() == surface.barrier("train")
    sorting = [nn.Sequential(nn.Linear(4, 8), Sorts(), nn.Linear(8, 3)) for _ in range(2)]
    with pytest.raises(UserError, match=r"align: .*structure is not understood: `1` \(Sorts\) calls sort"):
        landscape_mpi.sweep(sorting[0], "cross_entropy", data, plane={**plane, "to": sorting[1]}, grid=3)


def test_permutations_that_change_the_function_are_refused(pair, tmp_path, monkeypatch):
    def wrong(structure, theta, other):
        found = match(structure, theta, other)
        only = {"0.weight": found.structure.axes["0.weight"]}
        return Match(type(structure)(only), found.permutations, found.before, found.after)

    monkeypatch.setattr(aligned, "match", wrong)
    with pytest.raises(
        UserError, match=r"plane.align: found auto, and to.pt with permuted units computes something else"
    ):
        run(tmp_path)
