"""Journals of per-example losses: nothing that was appended is lost, whatever happens to the last record."""

import os
import signal
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from landscape_mpi.errors import UserError
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface.journal import THETA, Evaluated, Journal, journal_folder, read_journals
from landscape_mpi.surface.plan import PlanLog, begin_plan, read_plan
from support.launch import start

IDENTITY, OTHER = b"i" * 32, b"o" * 32


def evaluated(number, examples=5, hits=True):
    losses = np.linspace(number, number + 1, examples) if examples else np.empty(0)
    others = {"acc": losses > number + 0.5} if hits else {}
    return Evaluated(number, number % 2, 7 * number, PerExample(losses, others))


def same(found, expected):
    assert [(e.point, e.split, e.start) for e in found] == [(e.point, e.split, e.start) for e in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.found.losses.tobytes() == other.found.losses.tobytes()
        assert one.found.others.keys() == other.found.others.keys()
        for name, values in one.found.others.items():
            assert values.dtype == other.found.others[name].dtype
            assert values.tobytes() == other.found.others[name].tobytes()


def written(folder, records, rank=0):
    with Journal(folder, rank, IDENTITY) as journal:
        for record in records:
            journal.add(record)
    return folder / f"rank-{rank:05}.journal"


@pytest.mark.slow
@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 3),
    st.integers(0, 2**40),
    arrays.arrays(np.float64, st.integers(0, 40)),
    st.booleans(),
    st.lists(st.text(min_size=1, max_size=9).filter(lambda name: name != "acc"), unique=True, max_size=3),
)
def test_what_goes_in_comes_out_to_the_bit(tmp_path_factory, point, split, start, losses, hits, names):
    others = {"acc": ~np.isnan(losses)} if hits else {}
    record = Evaluated(point, split, start, PerExample(losses, others | dict.fromkeys(names, -losses)))
    folder = tmp_path_factory.mktemp("journal")
    written(folder, [record])
    same(list(read_journals(folder, IDENTITY)), [record])


def test_all_ranks_are_read_and_runs_append(tmp_path):
    for rank in (11, 2):
        written(tmp_path, [evaluated(rank)], rank)
    written(tmp_path, [evaluated(3, hits=False)], 2)
    (tmp_path / "notes.txt").write_text("no journal")
    same(list(read_journals(tmp_path, IDENTITY)), [evaluated(2), evaluated(3, hits=False), evaluated(11)])


def test_no_folder_holds_nothing(tmp_path):
    assert list(read_journals(tmp_path / "absent", IDENTITY)) == []
    assert journal_folder(tmp_path / "s.h5") == tmp_path / "s.h5.examples"


def test_the_folder_that_an_older_version_began_is_gone_on_with(tmp_path):
    (tmp_path / "s.h5.images").mkdir()
    assert journal_folder(tmp_path / "s.h5") == tmp_path / "s.h5.images"


def test_a_tail_torn_anywhere_is_dropped_and_overwritten(tmp_path):
    records = [evaluated(n) for n in range(3)]
    path = written(tmp_path, records)
    whole = path.read_bytes()
    last = len(whole) - (len(whole) - len(b"landscape_mpi images 1\n") - 32) // 3
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        same(list(read_journals(tmp_path, IDENTITY)), records[:2])
        written(tmp_path, [evaluated(9)])
        same(list(read_journals(tmp_path, IDENTITY)), [*records[:2], evaluated(9)])


@pytest.mark.parametrize("size", [0, 1, 23, 54])
def test_a_journal_torn_before_its_first_record_is_begun_anew(tmp_path, size):
    path = written(tmp_path, [evaluated(1)])
    path.write_bytes(path.read_bytes()[:size])
    assert list(read_journals(tmp_path, IDENTITY)) == []
    written(tmp_path, [evaluated(2)])
    same(list(read_journals(tmp_path, IDENTITY)), [evaluated(2)])


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_damage_ends_what_is_read_and_raises_nothing_else(tmp_path_factory, place, change):
    folder = tmp_path_factory.mktemp("journal")
    records = [evaluated(n) for n in range(4)]
    path = written(folder, records)
    data = bytearray(path.read_bytes())
    begin = len(b"landscape_mpi images 1\n") + 32
    at = begin + place % (len(data) - begin)
    data[at] ^= change
    path.write_bytes(data)
    found = list(read_journals(folder, IDENTITY))
    same(found, records[: (at - begin) // ((len(data) - begin) // 4)])


def test_another_sweeps_journal_is_refused_and_left_alone(tmp_path):
    path = written(tmp_path, [evaluated(1)])
    before = path.read_bytes()
    for use in (lambda: list(read_journals(tmp_path, OTHER)), lambda: Journal(tmp_path, 0, OTHER)):
        with pytest.raises(UserError, match="holds the losses of another sweep"):
            use()
    assert path.read_bytes() == before


ENDLESS = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.surface.journal import Evaluated, Journal

journal = Journal(Path(sys.argv[1]), 0, b"i" * 32)
for number in range(10**9):
    journal.add(Evaluated(number, 0, 0, PerExample(np.full(1000, float(number)))))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_what_was_appended_survives_a_kill(tmp_path):
    process = start(tmp_path, program=(sys.executable, "-c", ENDLESS))
    said = [int(process.stdout.readline()) for _ in range(200)]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    found = list(read_journals(tmp_path, IDENTITY))
    assert [record.point for record in found][:200] == said
    assert all((record.found.losses == record.point).all() for record in found)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10_000])
def test_a_record_that_claims_more_than_there_is_ends_what_is_read(tmp_path, length):
    path = written(tmp_path, [evaluated(0)])
    with path.open("ab") as file:
        file.write(struct.pack("<II", length, 0) + bytes(9000))
    same(list(read_journals(tmp_path, IDENTITY)), [evaluated(0)])


@pytest.mark.parametrize("examples", [2**64 - 1, 2**61, 6])
def test_a_slice_that_claims_more_examples_than_it_has_is_none(tmp_path, examples):
    written(tmp_path, [evaluated(0)])
    payload = struct.pack("<IHHQQ", 1, 0, 1, 0, examples) + bytes(41)
    with Journal(tmp_path, 0, IDENTITY) as journal:
        journal.append(payload)
    same(list(read_journals(tmp_path, IDENTITY)), [evaluated(0)])


@pytest.fixture
def plan(tmp_path):
    """A plan of one split, to which rounds are added as they are."""
    begin_plan(tmp_path, IDENTITY, [replace(evaluated(0), point=THETA)])

    def added(content):
        with PlanLog(tmp_path, IDENTITY) as log:
            log.append(b"R" + content)
        return read_plan(tmp_path, IDENTITY)

    return added


@pytest.mark.parametrize(
    "content",
    [
        *(b"{}", b"[]", b"3", b"null", b'"split"', b'{"split": 0}', b'{"split": 0, "promotions": 3}', b"\xff"),
        *(
            b'{"split": -1, "promotions": []}',
            b'{"split": true, "promotions": []}',
            b'{"split": 0.5, "promotions": []}',
        ),
        *(b'{"split": 0, "promotions": [[1]]}', b'{"split": 0, "promotions": ["ab"]}'),
        *(b'{"split": 0, "promotions": [[1, -1]]}', b'{"split": 0, "promotions": [[1e9, 1]]}'),
        *(b'{"split": 0, "promotions": [[' + b"9" * 5000 + b", 1]]}", b"[" * 100_000, b'{"split":' * 100_000),
    ],
    ids=range(18),
)
def test_a_round_that_is_none_ends_what_is_read(plan, content):
    assert plan(content).rounds == ((),)
    assert plan(b'{"split": 0, "promotions": [[1, 2]]}').rounds == (([(1, 2)],),)


def test_a_plan_keeps_points_on_all_examples_and_first_levels_apart_from_theta_and_rounds(tmp_path):
    theta, pilot = replace(evaluated(0), point=THETA), evaluated(0)
    begun = begin_plan(tmp_path, IDENTITY, [theta], [pilot], [800], 7)
    with PlanLog(tmp_path, IDENTITY) as log:
        log.add(0, [(1, 2)])
    again = begin_plan(tmp_path, IDENTITY, [theta], [], [None])
    same(list(again.origins), [theta])
    same(list(again.pilots), [pilot])
    assert again.firsts == begun.firsts == (800,)
    assert again.own == begun.own == 7
    assert again.rounds == (([(1, 2)],),)


def test_a_round_of_a_split_that_is_not_there_is_refused(plan):
    with pytest.raises(UserError, match=r"plan.journal: speaks of split 7; expected 1 splits"):
        plan(b'{"split": 7, "promotions": [[1, 1]]}')


def test_a_journal_that_is_a_link_or_of_somebody_else_is_refused_and_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "rank-00000.journal").symlink_to(precious)
    (tmp_path / "rank-00001.journal").write_text("notes")
    for rank in (0, 1):
        with pytest.raises(UserError, match=f"rank-0000{rank}.journal"):
            Journal(tmp_path, rank, IDENTITY)
    assert precious.read_text() == "mine"
    assert (tmp_path / "rank-00001.journal").read_text() == "notes"
