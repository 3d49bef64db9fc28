"""An engine that fails is passed over with its reason, and the plain network is not."""

import pytest

from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.ranks import RankError, Solo
from landscape_mpi.sweep import engine
from landscape_mpi.sweep.batch import choose_batch
from landscape_mpi.sweep.experiment import load_experiment
from support.jobs import tiny_job


class Failing:
    """An evaluator that cannot do what it was built for."""

    batch, description = 64, "never works"

    def per_image(self, point, split, images):
        raise NotImplementedError("no engine for this configuration")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(load_job(tiny_job(tmp_path), SweepJob), "cpu", Solo())
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


def test_the_batch_of_a_cpu_is_fixed(prepared):
    assert choose_batch(Solo(), prepared[0]) == 64
