"""The benchmark of kills: it finds what is missing, and goes on where it stopped; a few kills lose nothing."""

import json

import numpy as np
import pytest

from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface import NewSurface, Record, create_surface, open_writer
from landscape_mpi.surface.journal import Evaluated, Journal, journal_folder


@pytest.fixture
def evidence(benchmark_named):
    return benchmark_named("evidence")


@pytest.fixture
def surface(tmp_path):
    """Two points of three, and a journal of three records."""
    path = tmp_path / "surface.h5"
    create_surface(path, NewSurface((np.arange(3.0),), ("train_loss",), ([],), ""))
    record(path, 0, 2.0)
    record(path, 2, 3.0)
    with Journal(journal_folder(path), 0, b"i" * 32) as journal:
        for number in range(3):
            journal.add(Evaluated(number, 0, 0, PerExample(np.full(5, number))))
    return path


def record(path, index, value):
    writer = open_writer(path, None, root=True)
    writer.at_root(Record((index,), {"train_loss": value}, 1, 0.5))
    writer.finish(lambda: None, complete=False)


def test_what_is_there_is_seen_and_stays_seen_as_more_comes(evidence, surface):
    before = evidence.look(surface)
    assert (sorted(before.points), before.seen, before.size, before.aside) == ([0, 2], 3, 3, False)
    record(surface, 1, 7.0)
    assert before.missing(evidence.look(surface), moves=False) == 0
    assert evidence.dumps(surface)


def test_a_lost_or_changed_point_and_a_lost_record_are_found(evidence, surface):
    before = evidence.look(surface)
    record(surface, 2, 3.5)
    assert before.missing(evidence.look(surface), moves=False) == 1
    assert before.missing(evidence.look(surface), moves=True) == 0
    path = journal_folder(surface) / "rank-00000.journal"
    path.write_bytes(path.read_bytes()[:-1])
    assert before.missing(evidence.look(surface), moves=True) == 1
    surface.unlink()
    assert before.missing(evidence.look(surface), moves=True) == 3


def test_a_file_that_is_none_is_corrupt(evidence, surface):
    surface.write_bytes(surface.read_bytes()[:200])
    assert not evidence.dumps(surface)
    with pytest.raises(OSError, match="truncated"):
        evidence.look(surface)


def test_a_log_is_gone_on_with_and_the_table_adds_up(benchmark_named, tmp_path):
    faults = benchmark_named("faults")
    common = {"kind": "one rank", "phase": "sweep", "seen": 12, "lost": 0, "wrong": "", "hung": False}
    trials = [{"way": "sampled", **common}, {"way": "parallel", **common, "lost": 2, "wrong": "differs"}]
    log = tmp_path / "log"
    log.write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    found = faults.run(2, log, tmp_path)
    assert found == trials
    lines = faults.table(found, []).splitlines()
    assert lines[1].split() == ["parallel", "one", "rank", "sweep", "1", "12", "2", "1", "0"]
    assert lines[3].split() == ["together", "2", "24", "2", "1", "0"]


@pytest.mark.slow(75)
@pytest.mark.mpi
def test_kills_lose_nothing(benchmark_named, tmp_path):
    trials = benchmark_named("trials")
    targets = trials.Range(tmp_path, ("parallel", "merge"))
    for number in (4, 3):
        found = targets.trial(number)
        assert (found.lost, found.wrong, found.hung) == (0, "", False), found
        assert not (tmp_path / f"trial-{number}").exists()
