"""The engine is the fastest one that agrees; one that fails is passed over, and the plain network is not."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.errors import UserError
from landscape_mpi.evaluate import EagerEvaluator
from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.metrics.examples import summarise
from landscape_mpi.mpi.world import RankError, Solo
from landscape_mpi.networks.zoo import resnet
from landscape_mpi.sweeping import choose_engine as engine
from landscape_mpi.sweeping.choose_engine import IN_FLIGHT, LARGEST, SHARE, SMALLEST, choose_batch, largest_batch
from landscape_mpi.sweeping.load import JobSource, load_experiment
from landscape_mpi.sweeping.planes.build import build_plane
from support.jobs import tiny_job
from support.launch import launch

pytestmark = pytest.mark.usefixtures("lines_on_stderr")

NOISE = """
import torch

def images(root, split):
    random = torch.Generator().manual_seed(3)
    return torch.randn(24, 3, 32, 32, generator=random), torch.arange(24) % 10
"""


class Failing:
    """An evaluator that cannot do what it was built for."""

    batch, description = 64, "never works"
    centre = (0.0, 0.0)

    def per_example(self, point, split, images):
        raise NotImplementedError("no engine for this configuration")


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path), SweepJob)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())
    return experiment, build_plane(Solo(), experiment, 0, None)[1]


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

    centre = (0.0, 0.0)

    def __init__(self, other, factor):
        self.other, self.factor, self.batch = other, factor, other.batch

    def per_example(self, point, split, images):
        found = self.other.per_example(point, split, images)
        return replace(found, losses=found.losses * self.factor)


@pytest.mark.parametrize(
    ("factor", "chosen"),
    [(1 + 0.9e-5, "fused"), (1 + 1.1e-5, "eager"), (1 - 1.1e-5, "eager"), (float("nan"), "eager")],
)
def test_an_engine_has_to_agree_with_the_plain_network_to_1e_5(tmp_path, monkeypatch, factor, chosen):
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path, evaluate={"engine": "fused"}), SweepJob)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())

    def build(name, network, plane, task, batch):
        if name == "eager":
            return EagerEvaluator(network, plane, task, batch)
        exact = replace(task, dtype=torch.float64)
        return Scaled(EagerEvaluator(copy.deepcopy(network).double(), plane, exact, batch), factor)

    monkeypatch.setattr(engine, "build_engine", build)
    found = engine.choose_engine(Solo(), experiment, build_plane(Solo(), experiment, 0, None)[1], 64, None)
    assert found.name == chosen


def test_the_batch_of_a_cpu_is_fixed(prepared):
    assert choose_batch(Solo(), prepared[0]) == 64


@pytest.mark.slow
def test_the_plain_network_rounds_at_the_centre_as_it_does_at_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = {"build": "resnet20", "options": {"width": 8, "shortcut": "none"}, "checkpoint": "net.pt"}
    torch.manual_seed(0)
    torch.save(resnet(20, "none", 8).state_dict(), tmp_path / "net.pt")
    job = load_job(tiny_job(tmp_path, model=model, data__build="noise:images", evaluate__engine="eager"), SweepJob)
    (tmp_path / "noise.py").write_text(NOISE)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())
    found = engine.choose_engine(Solo(), experiment, build_plane(Solo(), experiment, 0, None)[1], 8, None)
    assert summarise(found.examples, experiment.task.metrics) == found.centre


class Clock:
    """Time that passes where an evaluator says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(engine, "time", SimpleNamespace(process_time=clock, perf_counter=clock))
    return clock


class Timed:
    """An evaluator, or none, whose evaluations take some seconds, the first one many more."""

    centre = (0.0, 0.0)

    def __init__(self, clock, seconds, other=None):
        self.clock, self.seconds, self.other, self.cold = clock, seconds, other, 1000.0

    def per_example(self, *args):
        self.clock.now += self.seconds + self.cold
        self.cold = 0.0
        return self.other and self.other.per_example(*args)

    @property
    def description(self):
        return self.other.description


class Pair(Solo):
    """One of two ranks; the other one took as long for engine a, and 9 s for b."""

    def allgather(self, mine):
        return [mine, mine | {"b": 9.0}] if isinstance(mine, dict) else [mine, mine]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.5), "ba"), ((1.0, 0.8), "ab"), ((0.5, 1.0), "ab"), ((1.0, 0.7, 0.2), "cab"), ((1.0,), "a")],
)
def test_an_engine_comes_first_where_it_takes_less_than_three_quarters_of_the_first_ones_time(clock, seconds, expected):
    engines = {name: Timed(clock, one) for name, one in zip("abc", seconds, strict=False)}
    assert "".join(engine.fastest_first(Solo(), engines, "train", 8)) == expected


def test_the_times_of_all_ranks_count(clock):
    engines = {"a": Timed(clock, 1.0), "b": Timed(clock, 0.1)}
    assert engine.fastest_first(Pair(), engines, "train", 8) == ("a", "b")


@pytest.fixture
def chosen(tmp_path, monkeypatch, clock):
    """The engine of a tiny job that has a slow first engine, and which engines were built."""
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path), SweepJob)
    experiment = load_experiment(job, JobSource(job), "cpu", Solo())
    built, build = [], engine.build_engine
    monkeypatch.setattr(engine, "candidates", lambda *_: ("slow", "quick", "eager"))

    def timed(name, *args):
        built.append(name)
        return Timed(clock, {"slow": 2.0}.get(name, 1.0), build("eager", *args))

    monkeypatch.setattr(engine, "build_engine", timed)

    def choose(recorded=None, **options):
        plane = build_plane(Solo(), experiment, 0, None)[1]
        return engine.choose_engine(Solo(), experiment, plane, 64, recorded, **options).name, built

    return choose


def test_a_large_job_takes_the_fastest_and_builds_each_once(chosen, monkeypatch):
    monkeypatch.setattr(engine, "WORTH", 1)
    assert chosen() == ("quick", ["slow", "quick"])


def test_a_small_job_takes_the_first_and_measures_nothing(chosen):
    assert chosen() == ("slow", ["slow"])


def test_shards_are_alike_and_what_was_begun_goes_on(chosen, monkeypatch):
    monkeypatch.setattr(engine, "WORTH", 1)
    assert chosen(alike=True) == ("slow", ["slow"])
    assert chosen("slow")[0] == "slow"


def test_an_engine_that_fails_while_it_is_timed_is_passed_over_with_its_reason(chosen, monkeypatch, capsys):
    monkeypatch.setattr(engine, "WORTH", 1)
    timed = engine.build_engine

    def build(name, *args):
        if name == "slow":
            raise ValueError("no memory for this one")
        return timed(name, *args)

    monkeypatch.setattr(engine, "build_engine", build)
    assert chosen()[0] == "quick"
    assert "not the engine slow: it failed (ValueError: no memory for this one)" in capsys.readouterr().err


GB, MB, KB = 10**9, 10**6, 10**3
memories = st.fixed_dictionaries(
    {
        "free": st.integers(0, 200 * GB),
        "ranks": st.integers(1, 16),
        "weights": st.integers(0, 4 * GB),
        "example": st.floats(0, GB) | st.just(float("inf")),
    }
)


@given(memories)
def test_the_batch_is_a_power_of_two_that_fits_with_headroom(memory):
    batch = largest_batch(**memory)
    assert SMALLEST <= batch <= LARGEST
    assert batch.bit_count() == 1
    if batch > SMALLEST:
        needed = IN_FLIGHT * batch * memory["example"] + memory["weights"]
        assert needed * memory["ranks"] <= SHARE * memory["free"] * (1 + 1e-9)


@pytest.mark.slow
@given(memories, st.integers(2, 8))
def test_more_ranks_or_larger_examples_take_no_larger_batch(memory, factor):
    for name in ("ranks", "example"):
        assert largest_batch(**memory | {name: memory[name] * factor}) <= largest_batch(**memory)


@pytest.mark.parametrize(
    ("memory", "batch"),
    [
        ({"free": 80 * GB, "ranks": 1, "weights": 16 * MB, "example": 300 * KB}, 4096),
        ({"free": 8 * GB, "ranks": 1, "weights": 1600 * MB, "example": MB}, 512),
        ({"free": 8 * GB, "ranks": 4, "weights": 16 * MB, "example": MB}, 256),
        ({"free": 8 * GB, "ranks": 1, "weights": 16 * GB, "example": MB}, 64),
        ({"free": GB, "ranks": 1, "weights": 0, "example": float("inf")}, 64),
    ],
)
def test_what_it_is_on_some_devices(memory, batch):
    assert largest_batch(**memory) == batch


def surface(path):
    with h5py.File(path) as file:
        return {name: file[name][()] for name in ("train_loss", "test_acc", "error", "status")}, dict(file.attrs)


@pytest.mark.slow
def test_out_of_memory_takes_fewer_examples_says_so_once_and_notes_it_at_the_points(tmp_path):
    grid = {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]}
    run = launch("sweep", tiny_job(tmp_path, loss="tiny:hungry", grid=grid))
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("evaluates 8 examples at a time instead of 64, because memory is short.") == 1
    found, attributes = surface(tmp_path / "surface.h5")
    assert attributes["batch"] == 64
    assert set(found["error"].ravel()) == {b"8 examples at a time instead of 64, because memory is short"}
    assert set(found["status"].ravel()) == {1}
    launch("sweep", tiny_job(tmp_path, loss="tiny:hungry", grid=grid, output__file="wide.h5"), env={"TINY_ROOM": "99"})
    undisturbed, _ = surface(tmp_path / "wide.h5")
    np.testing.assert_allclose(found["train_loss"], undisturbed["train_loss"], rtol=1e-6)
    assert np.array_equal(found["test_acc"], undisturbed["test_acc"])
    assert set(undisturbed["error"].ravel()) == {b""}


def test_where_not_even_two_examples_fit_the_error_comes_through(tmp_path):
    run = launch("sweep", tiny_job(tmp_path, loss="tiny:hungry"), env={"TINY_ROOM": "1"})
    assert run.returncode == 1
    assert "OutOfMemoryError: CUDA out of memory" in run.stderr
    assert not (tmp_path / "surface.h5").exists()
