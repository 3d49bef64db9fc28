"""One network: ranks, later runs and shards whose callable makes others are refused."""

import json

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import Exit, UserError, render
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface.identity import centre_text, other_network
from landscape_mpi.surface.merge import merge
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from support.jobs import results, tiny_job

DRAWN = """
import os
import torch
from torch import nn

class Drawn(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        generator = torch.Generator().manual_seed(int(os.environ["DRAWN"]))
        self.which = torch.randperm(4, generator=generator)

    def forward(self, x):
        return super().forward(x[:, self.which])
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAWN", "1")
    (tmp_path / "drawn.py").write_text(DRAWN)
    return tiny_job(tmp_path, model__build="drawn:Drawn", loss="cross_entropy")


def run(job, **options):
    return sweep(job, Options(device="cpu", **options), Solo())


@pytest.mark.slow
def test_a_later_run_with_another_network_is_refused(job, monkeypatch):
    assert run(job) == Exit.COMPLETE
    with h5py.File("surface.h5") as file:
        assert {split: len(found) for split, found in json.loads(file.attrs["centre_losses"]).items()} == {
            "train": 8,
            "test": 8,
        }
    before = results(job.parent / "surface.h5")
    assert run(job) == Exit.COMPLETE
    monkeypatch.setenv("DRAWN", "2")
    with pytest.raises(UserError, match=r"model\.build: at theta\* the first train examples have the losses .* seed"):
        run(job)
    assert results(job.parent / "surface.h5") == before


@pytest.mark.slow
def test_shards_of_different_networks_make_no_surface(job, monkeypatch, tmp_path):
    for shard, drawn in (("0/2", "1"), ("1/2", "2")):
        monkeypatch.setenv("DRAWN", drawn)
        assert run(job, shard=shard) == Exit.COMPLETE
    shards = [tmp_path / f"surface.shard-{index}-of-2.h5" for index in (0, 1)]
    with pytest.raises(UserError, match=r"model\.build: at theta\* .* random numbers"):
        merge(tmp_path / "surface.h5", shards)
    assert not (tmp_path / "surface.h5").exists()


LOSSES = {"train": np.array([0.5, 2.0, 1e-7]), "test": np.array([1.0, np.nan, np.inf])}


def test_rounding_makes_no_other_network_and_anything_more_does():
    ours = centre_text(LOSSES)
    near = {split: values * (1 + 2e-5) for split, values in LOSSES.items()}
    assert other_network(ours, centre_text(near), "float32") is None
    assert other_network(ours, None, "float32") is None
    far = {**LOSSES, "train": LOSSES["train"] * (1 + 1e-4)}
    assert "the first train examples" in render(other_network(ours, centre_text(far), "float32"))
    assert other_network(ours, centre_text(far), "bfloat16") is None
    finite = {**LOSSES, "test": np.ones(3)}
    assert "the first test examples" in render(other_network(ours, centre_text(finite), "float32"))
    assert "other splits" in render(other_network(ours, centre_text({"train": LOSSES["train"]}), "float32"))


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"train": "x"}', '{"train": [[1], 2]}', "[" * 10_000, '{"train": {}}']
)
def test_text_that_holds_no_losses_is_another_network(text):
    assert render(other_network(text, centre_text(LOSSES), "float32")).startswith("model.build: ")
