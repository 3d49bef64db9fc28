"""The fastest engine is taken where it surely is: by times added up over the ranks, on a clock of the test's own."""

from types import SimpleNamespace

import pytest

from landscape_mpi.job import SweepJob, load_job
from landscape_mpi.mpi.world import Solo
from landscape_mpi.sweeping import choose_engine as engine
from landscape_mpi.sweeping import fastest
from landscape_mpi.sweeping.experiment import load_experiment
from landscape_mpi.sweeping.sources import Named
from support.jobs import tiny_job


class Clock:
    """Time that passes where an evaluator says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(fastest, "time", SimpleNamespace(process_time=clock, perf_counter=clock))
    return clock


class Timed:
    """An evaluator, or none, whose evaluations take some seconds, the first one many more."""

    def __init__(self, clock, seconds, other=None):
        self.clock, self.seconds, self.other, self.cold = clock, seconds, other, 1000.0

    def per_image(self, *args):
        self.clock.now += self.seconds + self.cold
        self.cold = 0.0
        return self.other and self.other.per_image(*args)

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
    assert "".join(fastest.fastest_first(Solo(), engines, "train", 8)) == expected


def test_the_times_of_all_ranks_count(clock):
    engines = {"a": Timed(clock, 1.0), "b": Timed(clock, 0.1)}
    assert fastest.fastest_first(Pair(), engines, "train", 8) == ("a", "b")


@pytest.fixture
def chosen(tmp_path, monkeypatch, clock):
    """The engine of a tiny job that has a slow first engine, and which engines were built."""
    monkeypatch.chdir(tmp_path)
    job = load_job(tiny_job(tmp_path), SweepJob)
    experiment = load_experiment(job, Named(job), "cpu", Solo())
    built, build = [], engine.build_engine
    monkeypatch.setattr(engine, "candidates", lambda *_: ("slow", "quick", "eager"))

    def timed(name, *args):
        built.append(name)
        return Timed(clock, {"slow": 2.0}.get(name, 1.0), build("eager", *args))

    monkeypatch.setattr(engine, "build_engine", timed)

    def choose(recorded=None, **options):
        plane = experiment.plane(Solo(), 0)[0]
        return engine.choose_engine(Solo(), experiment, plane, 64, recorded, **options).name, built

    return choose


def test_a_large_job_takes_the_fastest_and_builds_each_once(chosen, monkeypatch):
    monkeypatch.setattr(fastest, "WORTH", 1)
    assert chosen() == ("quick", ["slow", "quick"])


def test_a_small_job_takes_the_first_and_measures_nothing(chosen):
    assert chosen() == ("slow", ["slow"])


def test_shards_are_alike_and_what_was_begun_goes_on(chosen, monkeypatch):
    monkeypatch.setattr(fastest, "WORTH", 1)
    assert chosen(alike=True) == ("slow", ["slow"])
    assert chosen("slow")[0] == "slow"


def test_an_engine_that_fails_while_it_is_timed_is_passed_over_with_its_reason(chosen, monkeypatch, capsys):
    monkeypatch.setattr(fastest, "WORTH", 1)
    timed = engine.build_engine

    def build(name, *args):
        if name == "slow":
            raise ValueError("no memory for this one")
        return timed(name, *args)

    monkeypatch.setattr(engine, "build_engine", build)
    assert chosen()[0] == "quick"
    assert "not the engine slow: it failed (ValueError: no memory for this one)" in capsys.readouterr().err
