"""Sweeps on a world of ranks: the bits of a sweep by one process, and mistakes that all ranks see."""

import shutil
from functools import partial

import h5py
import numpy as np
import pytest
import torch

import landscape_mpi
from landscape_mpi.api import run
from landscape_mpi.assemble import build_model
from landscape_mpi.errors import Exit, UserError
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.networks.files import places
from landscape_mpi.networks.meta import build_empty
from landscape_mpi.sweeping import large
from landscape_mpi.sweeping.load import agreed
from landscape_mpi.sweeping.once import open_once
from landscape_mpi.sweeping.run import Options, sweep
from support import texts, tiny
from support.jobs import done, results

OPTIONS = Options(device="cpu")
SAMPLED = {
    "data__options": {"images": 4000},
    "loss": "tiny:cross_entropy",
    "grid": {"alpha": [-3, 3, 9], "beta": [-2, 2, 5]},
    "sampling": {"error": 0.02, "audit": 6},
}
SQUARE = {"plane": {"kind": "interpolate", "to": "to.pt", "via": "via.pt"}, "model__options": {"batchnorm": True}}


def by_all_and_by_one(world, folder, job, **changes):
    """Sweep a job by all ranks and by rank 0 alone; return the results of both files on every rank."""
    assert sweep(job(output__file="all.h5", **changes), OPTIONS, world) == Exit.COMPLETE
    alone = job("alone.yaml", output__file="alone.h5", **changes)
    if world.rank == 0:
        assert sweep(alone, OPTIONS, Solo()) == Exit.COMPLETE
    world.barrier()
    return results(folder / "all.h5"), results(folder / "alone.h5")


def gone_on_with(world, folder, job, **changes):
    """Undo every other point of what rank 0 has swept alone and have all ranks go on; return the results."""
    if world.rank == 0:
        shutil.copy(folder / "alone.h5", folder / "half.h5")
        with h5py.File(folder / "half.h5", "r+") as file:
            file["complete"][()] = 0
            for row, column in zip(*np.nonzero(np.indices(file["status"].shape).sum(0) % 2), strict=True):
                file["status"][row, column] = 0
                file["train_loss"][row, column] = np.nan
    world.barrier()
    assert sweep(job("half.yaml", output__file="half.h5", **changes), OPTIONS, world) == Exit.COMPLETE
    return results(folder / "half.h5")


@pytest.mark.parametrize("writer", ["parallel", "root"])
def test_ranks_and_the_way_of_writing_change_no_bit(world, folder, job, writer, monkeypatch):
    if writer == "root":
        monkeypatch.setenv("LANDSCAPE_WRITER", "root")
    ours, alone = by_all_and_by_one(world, folder, job)
    assert ours == alone
    assert gone_on_with(world, folder, job) == alone
    with h5py.File(folder / "all.h5", locking=False) as file:
        assert set(file["rank"][()].ravel()) <= set(range(world.size))


def test_ranks_have_the_curve_that_one_trains(world, folder, job):
    if world.rank == 0:
        torch.manual_seed(7)
        torch.save(tiny.network().state_dict(), folder / "to.pt")
    world.barrier()
    changes = {"plane": {"kind": "curve", "to": "to.pt", "steps": 20}, "grid": {"alpha": [0, 1, 5]}}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone


@pytest.mark.parametrize("weights", ["resident", "streamed"])
def test_ranks_change_no_bit_of_the_precision_floor(world, folder, job, weights):
    changes = {"evaluate": {"dtype": "bfloat16", "weights": weights, "batch": 4}}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    floors = []
    for name in ("all.h5", "alone.h5"):
        with h5py.File(folder / name, locking=False) as file:
            floors.append(file.attrs["precision_floor"])
    assert floors[0] == floors[1] > 0


def test_ranks_find_the_range_that_one_finds(world, folder, job, monkeypatch):
    changes = {"grid": {"alpha": "auto", "points": 3}, "data__options": {"images": 150}, "evaluate": {"batch": 7}}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    monkeypatch.setattr(large, "LARGE", 0)
    assert sweep(job(output__file="large.h5", **changes), OPTIONS, world) == Exit.COMPLETE
    group = Options(device="cpu", group=world.size)
    assert sweep(job(output__file="group.h5", **changes), group, world) == Exit.COMPLETE
    for name in ("large.h5", "group.h5"):
        assert results(folder / name)["xcoordinates"] == alone["xcoordinates"]


@pytest.mark.parametrize(
    ("weights", "plane"),
    [
        ("resident", {"kind": "random", "seed": 3}),
        ("streamed", {"kind": "random", "seed": 3, "trajectory": "*.pt"}),
        ("streamed", {"kind": "interpolate", "to": "to.pt", "via": "via.pt"}),
        ("resident", {"kind": "pca", "trajectory": "*.pt"}),
        ("resident", {"kind": "file", "path": "drawn.h5"}),
    ],
)
def test_ranks_change_no_bit_of_a_network_that_is_not_copied(world, folder, job, weights, plane, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 0)
    drawn = job("drawn.yaml", output__file="drawn.h5")
    if world.rank == 0:
        for seed, name in enumerate(("to.pt", "via.pt", "end.pt")):
            torch.manual_seed(seed + 7)
            torch.save(tiny.network().state_dict(), folder / name)
        if plane["kind"] == "file":
            sweep(drawn, OPTIONS, Solo())
    world.barrier()
    changes = {"plane": plane, "evaluate": {"weights": weights}, "output__directions": "auto"}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    assert gone_on_with(world, folder, job, **changes) == alone


def test_a_checkpoint_that_cannot_be_mapped_is_held_once_a_node(world, folder, job, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 0)
    torch.manual_seed(3)
    state = {name: tensor.bfloat16() for name, tensor in tiny.network(batchnorm=True).state_dict().items()}
    state["1.num_batches_tracked"] = torch.tensor(5)
    path = job(model__options={"batchnorm": True}, evaluate={"weights": "resident"})
    for legacy in (True, False):
        if world.rank == 0:
            torch.save({"model": state}, folder / "net.pt", _use_new_zipfile_serialization=not legacy)
        world.barrier()
        build = partial(build_model, load_job(path, SweepJob))
        network = build_empty(build)
        found = open_once(world, network, folder / "net.pt", None)
        assert list(found.state) == list(state)
        for name, tensor in found.state.items():
            assert tensor.dtype == state[name].dtype
            assert torch.equal(tensor, state[name]), name
        assert set(places(found.state, [folder / "net.pt"])) == (set() if legacy else set(state))
        weight = found.state["0.weight"]
        world.barrier()
        if world.local_rank == 0:
            weight[0, 0] = 7
        world.barrier()  # what one rank writes all see where memory is shared, and nobody else where a file is mapped
        assert (weight[0, 0] == 7) == (legacy or world.local_rank == 0)
        changes = {"model__options": {"batchnorm": True}, "output__directions": "auto"}
        ours, alone = by_all_and_by_one(world, folder, job, evaluate={"weights": "resident"}, **changes)
        assert ours == alone
        world.barrier()
        if world.rank == 0:
            for file in folder.glob("*.h5"):
                file.unlink()
        world.barrier()


@pytest.mark.parametrize("alike", [True, False])
def test_large_networks_that_are_given_are_those_of_rank_0(world, folder, alike, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 0)

    def given(rank):
        torch.manual_seed(rank)
        return tiny.network(batchnorm=True).bfloat16(), {"kind": "interpolate", "to": tiny.network(batchnorm=True)}

    network, plane = given(0 if alike else world.rank)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data, grid = tiny.data(None, "train"), {"alpha": [-1, 1, 5]}
    options = {"batchnorm": "move", "quiet": True}
    ours = landscape_mpi.sweep(network, "cross_entropy", data, plane, grid, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    expected = world.bcast((ours.loss(), ours.attributes["plane_sha256"], ours.attributes["checkpoint_sha256"]))
    if world.rank == 0:
        monkeypatch.setattr(run, "_world", Solo)
        network, plane = given(0)
        alone = landscape_mpi.sweep(network, "cross_entropy", data, plane, grid, **options)
        assert np.array_equal(expected[0], alone.loss())
        assert expected[1:] == (alone.attributes["plane_sha256"], alone.attributes["checkpoint_sha256"])


def test_ranks_change_no_bit_of_a_sampled_sweep(world, folder, job):
    ours, alone = by_all_and_by_one(world, folder, job, **SAMPLED)
    assert ours == alone
    assert len(list((folder / "all.h5.examples").glob("rank-*.journal"))) == world.size


def test_ranks_change_no_bit_of_eigenvalues_and_the_plane_of_eigenvectors(world, folder, job):
    changes = {"metrics": ["loss", "hessian"], "plane": {"kind": "hessian"}, "evaluate": {"batch": 8}}
    changes["grid"] = {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    assert gone_on_with(world, folder, job, **changes) == alone


@pytest.mark.parametrize("writer", ["parallel", "root"])
def test_ranks_change_no_bit_of_the_spectrum(world, folder, job, writer, monkeypatch):
    if writer == "root":
        monkeypatch.setenv("LANDSCAPE_WRITER", "root")
    changes = {"metrics": ["loss", "spectrum"], "hessian": {"probes": 3, "steps": 4}, "evaluate": {"batch": 8}}
    changes["grid"] = {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    assert np.isfinite(np.frombuffer(ours["spectrum_nodes"][1])).all()
    assert gone_on_with(world, folder, job, **changes) == alone


def test_ranks_change_no_bit_of_the_steepest_ascent(world, folder, job):
    changes = {"plane": {"kind": "worst", "steps": 3, "radius": 0.2}, "grid": {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}}
    ours, alone = by_all_and_by_one(world, folder, job, **changes)
    assert ours == alone
    assert gone_on_with(world, folder, job, **changes) == alone


def test_ranks_change_no_bit_of_a_language_model_swept_on_text(world, folder):
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")

    def job(name="job.yaml", **changes):
        if world.rank == 0:
            texts.language_job(folder, name, **changes)
        world.barrier()
        return folder / name

    ours, alone = by_all_and_by_one(world, folder, job)
    assert ours == alone


@pytest.mark.parametrize("policy", ["move", "recompute"])
def test_ranks_change_no_bit_of_the_statistics_of_batch_norm(world, folder, job, policy):
    if world.rank == 0:
        for seed, name in enumerate(("net.pt", "to.pt", "via.pt")):
            torch.manual_seed(seed)
            network = tiny.network(batchnorm=True)
            network(torch.randn(50, 4))
            torch.save(network.state_dict(), folder / name)
    world.barrier()
    changes = {"grid": {"alpha": [-0.5, 1.5, 5], "beta": [0, 1, 4]}, "evaluate": {"batchnorm": policy}}
    ours, alone = by_all_and_by_one(world, folder, job, **SQUARE, **changes)
    assert ours == alone
    assert gone_on_with(world, folder, job, **SQUARE, **changes) == alone
    assert np.unpackbits(np.frombuffer(ours["status"][1], np.uint8)).sum() == 20


def test_a_rank_without_a_point_is_no_harm(world, folder, job):
    assert sweep(job(grid={"alpha": [0, 1, 2]}), OPTIONS, world) == Exit.COMPLETE
    assert done(folder / "surface.h5") == 2


def test_ranks_that_hold_different_planes_all_say_so(world):
    last = world.size - 1
    assert agreed(world, "data", "abc" if world.rank != last else None) == "abc"
    with pytest.raises(UserError, match=f"plane: rank {last} holds another plane than rank 0") as caught:
        agreed(world, "plane", str(world.rank == last))
    assert len(set(world.allgather(str(caught.value)))) == 1


DRAWN = """
import os
import torch
from torch import nn

class Drawn(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        rank = os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ["PMI_RANK"]
        self.which = torch.randperm(4, generator=torch.Generator().manual_seed(int(rank)))

    def forward(self, x):
        return super().forward(x[:, self.which])
"""


def test_ranks_with_different_networks_are_refused(world, folder, job):
    (folder / "drawn.py").write_text(DRAWN) if world.rank == 0 else None
    drawn = job(model__build="drawn:Drawn", loss="cross_entropy")
    with pytest.raises(UserError, match=r"on rank 0 and .* by the same checkpoint; expected one network"):
        sweep(drawn, OPTIONS, world)
    world.barrier()
    assert not (folder / "surface.h5").exists()


@pytest.mark.usefixtures("lines_on_stderr")
def test_what_is_said_of_a_checkpoint_is_said_once(world, folder, job, capfd):
    path = job()
    if world.rank == 0:
        states = {}
        for seed, name in enumerate(("model", "ema")):
            torch.manual_seed(seed)
            states[name] = {f"module._orig_mod.{key}": value for key, value in tiny.network().state_dict().items()}
        torch.save(states, folder / "net.pt")
    world.barrier()
    assert sweep(path, OPTIONS, world) == Exit.COMPLETE
    said = capfd.readouterr().err
    taken = "`model.module._orig_mod` is taken, not `ema.module._orig_mod`; model.entry names"
    assert (said.count(taken), said.count("its names begin with")) == ((1, 1) if world.rank == 0 else (0, 0))


def test_the_settings_of_rank_0_are_those_of_all(world, folder, job):
    settings = ("grid.alpha=[0, 1, 3]", "grid.beta=null") if world.rank == 0 else ("nonsense",)
    assert sweep(job(), Options(device="cpu", settings=settings), world) == Exit.COMPLETE
    alone = job("alone.yaml", output__file="alone.h5", grid={"alpha": [0, 1, 3]})
    if world.rank == 0:
        assert sweep(alone, OPTIONS, Solo()) == Exit.COMPLETE
    world.barrier()
    assert results(folder / "surface.h5") == results(folder / "alone.h5")


def test_ranks_change_no_bit_of_an_aligned_line(world, folder, job):
    if world.rank == 0:
        torch.manual_seed(3)
        torch.save(tiny.network().state_dict(), folder / "to.pt")
    world.barrier()
    plane = {"kind": "interpolate", "to": "to.pt", "align": "auto"}
    ours, alone = by_all_and_by_one(world, folder, job, plane=plane, grid={"alpha": [0, 1, 5]})
    assert ours == alone


@pytest.mark.parametrize("sampling", [None, {"error": 0.05, "audit": 2}])
def test_points_of_all_ranks_are_told_on_rank_0_alone(world, sampling):
    told, data = [], tiny.data(None, "train", 4000)
    surface = landscape_mpi.sweep(
        tiny.network(), "cross_entropy", data, grid=3, quiet=True, sampling=sampling, on_point=told.append
    )
    last = {point.index: point.values["train_loss"] for point in told}
    assert len(last) == (9 if world.rank == 0 else 0)
    assert all(surface.loss()[index] == value for index, value in last.items())
