"""An engine that fails is passed over with its reason, and the plain network is not."""

import copy
from dataclasses import replace

import pytest
import torch

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import RankError, Solo
from landscape_mpi.networks.resnet import resnet
from landscape_mpi.sweeping import choose_engine as engine
from landscape_mpi.sweeping.batch_size import choose_batch
from landscape_mpi.sweeping.experiment import load_experiment
from landscape_mpi.sweeping.sources import Named
from support.jobs import tiny_job

NOISE = """
import torch

def images(root, split):
    random = torch.Generator().manual_seed(3)
    return torch.randn(24, 3, 32, 32, generator=random), torch.arange(24) % 10
"""


class Failing:
    """An evaluator that cannot do what it was built for."""

    batch, description = 64, "never works"

    def per_image(self, point, split, images):
        raise NotImplementedError("no engine for this configuration")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path), SweepJob)
    experiment = load_experiment(job, Named(job), "cpu", Solo())
    return experiment, experiment.plane(Solo(), 0)[0]


def choose(prepared, recorded=None):
    return engine.choose_engine(Solo(), *prepared, 64, recorded)


def test_an_engine_that_fails_is_passed_over(prepared, monkeypatch, capsys):
    def build(name, network, plane, task, batch):
        return EagerEvaluator(network, plane, task, batch) if name == "eager" else Failing()

    monkeypatch.setattr(engine, "build_engine", build)
    assert choose(prepared).name == "eager"
    said = capsys.readouterr().err
    assert "not the engine fused: it failed (NotImplementedError: no engine for this configuration)." in said


def test_what_fails_as_the_plain_network_is_an_error(prepared, monkeypatch):
    monkeypatch.setattr(engine, "build_engine", lambda *_: Failing())
    with pytest.raises(RankError, match="no engine for this configuration"):
        choose(prepared)


def test_a_sweep_does_not_go_on_with_another_engine_than_it_was_begun_with(prepared, monkeypatch):
    monkeypatch.setattr(engine, "kernel_is_missing", lambda name: name == "compiled")
    with pytest.raises(UserError, match=r"the engine compiled, .*: this installation has no compiled kernel"):
        choose(prepared, "compiled")
    assert choose(prepared, "eager").name == "eager"


class Scaled:
    """An evaluator whose losses are another's, times a factor."""

    description = "another's"

    def __init__(self, other, factor):
        self.other, self.factor, self.batch = other, factor, other.batch

    def per_image(self, point, split, images):
        found = self.other.per_image(point, split, images)
        return replace(found, losses=found.losses * self.factor)


@pytest.mark.parametrize(
    ("factor", "chosen"),
    [(1 + 0.9e-5, "fused"), (1 + 1.1e-5, "eager"), (1 - 1.1e-5, "eager"), (float("nan"), "eager")],
)
def test_an_engine_has_to_agree_with_the_plain_network_to_1e_5(tmp_path, monkeypatch, factor, chosen):
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path, evaluate={"engine": "fused"}), SweepJob)
    experiment = load_experiment(job, Named(job), "cpu", Solo())

    def build(name, network, plane, task, batch):
        if name == "eager":
            return EagerEvaluator(network, plane, task, batch)
        exact = replace(task, dtype=torch.float64)
        return Scaled(EagerEvaluator(copy.deepcopy(network).double(), plane, exact, batch), factor)

    monkeypatch.setattr(engine, "build_engine", build)
    found = engine.choose_engine(Solo(), experiment, experiment.plane(Solo(), 0)[0], 64, None)
    assert found.name == chosen


def test_the_batch_of_a_cpu_is_fixed(prepared):
    assert choose_batch(Solo(), prepared[0]) == 64


def test_the_plain_network_rounds_at_the_centre_as_it_does_at_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {"build": "resnet20", "options": {"width": 8, "shortcut": "none"}, "checkpoint": "net.pt"}
    torch.manual_seed(0)
    torch.save(resnet(20, "none", 8).state_dict(), tmp_path / "net.pt")
    job = load_job(tiny_job(tmp_path, model=model, data__build="noise:images", evaluate__engine="eager"), SweepJob)
    (tmp_path / "noise.py").write_text(NOISE)
    experiment = load_experiment(job, Named(job), "cpu", Solo())
    found = engine.choose_engine(Solo(), experiment, experiment.plane(Solo(), 0)[0], 8, None)
    assert engine.means(found.images, job.values.metrics) == found.centre
