"""Points on all examples that precede the order of a rise's examples: stopped and gone on with, shared by shards."""

import logging
import math
import os
import signal

import numpy as np
import pytest

from landscape_mpi.errors import Exit
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.mpi.shutdown import Stop
from landscape_mpi.mpi.world import Solo
from landscape_mpi.surface import Evaluated, Shard, journal_folder
from landscape_mpi.surface.journal import JOURNAL, journals, read_pilots
from landscape_mpi.surface.plan import PLAN_NAME
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.pilots import Pilots, pieces_of
from landscape_mpi.sweeping.run import sweep
from support.jobs import results, tiny_job
from support.launch import finish, start
from support.ranks import process_of
from support.waiting import wait_for

LINE = {
    "data__options": {"images": 1600},
    "data__splits": ["train"],
    "grid": {"alpha": [-2, 2, 25]},
    "evaluate": {"batch": 16},
    "sampling": {"error": 0.3, "of": "rise", "audit": 2},
}
FIRST = "points on all examples first"


def line_job(folder, **changes):
    """Write a job of 25 points, of which two are evaluated on all examples first, in 13 pieces each."""
    return tiny_job(folder, **{**LINE, **changes})


def swept(job, shard=None, stop=None, **options):
    limit = None if stop is None else 3600.0
    return sweep(job, Options(device="cpu", shard=shard, time_limit=limit, **options), Solo(), stop)


def stop_at(folder, slices):
    """A time limit that has come once so many pieces of pilots are kept."""
    return Stop(clock=lambda: math.inf if len(kept(folder)) >= slices else 0.0)


def kept(folder):
    """Which pieces the journals of the pilots hold, as often as they do."""
    files = journals(folder, kind="pilots")
    identity = files[0].read_bytes()[len(JOURNAL.magic) :][:32] if files else b""
    return [(one.split, one.point, one.start) for one in read_pilots(folder, identity)] if identity else []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert swept(line_job(folder)) == Exit.COMPLETE
    return results(folder / "surface.h5")


@pytest.mark.slow
def test_a_time_limit_among_them_keeps_what_is_done(tmp_path, caplog, undisturbed):
    caplog.set_level(logging.INFO, "landscape_mpi")
    job, folder = line_job(tmp_path), journal_folder(tmp_path / "surface.h5")
    for slices in (3, 11):
        assert swept(job, stop=stop_at(folder, slices)) == Exit.RUN_AGAIN
        assert len(kept(folder)) == slices
        assert "surface.h5: stopped by the time limit; what is done is kept" in caplog.text
        assert not (folder / PLAN_NAME).exists()
    caplog.clear()
    assert swept(job) == Exit.COMPLETE
    assert f"2 {FIRST}, to see which of them rise; 11 of 26 slices of them are there." in caplog.text
    assert len(kept(folder)) == len(set(kept(folder))) == 26
    assert results(tmp_path / "surface.h5") == undisturbed


@pytest.mark.mpi
def test_a_signal_among_them_keeps_what_the_ranks_have_done(tmp_path, caplog, undisturbed):
    caplog.set_level(logging.INFO, "landscape_mpi")
    job, folder = line_job(tmp_path, loss="tiny:held"), journal_folder(tmp_path / "surface.h5")
    process = start("sweep", job, ranks=2, env={"TINY_HELD": f"3000:{folder}"})

    def told():
        return sum(path.stat().st_size for path in journals(folder, kind="pilots")) >= 3000

    wait_for(lambda: told() or process.poll() is not None)
    if told():
        for pid in [process_of(process, rank) for rank in (0, 1)]:
            os.kill(pid, signal.SIGTERM)
    (tmp_path / "go").touch()  # the ranks have waited until here, and each has its signal now
    ended = finish(process, 120)
    assert ended.returncode == 75, ended.stderr
    assert "stopped by SIGTERM; what is done is kept" in ended.stderr
    before = len(kept(folder))
    assert 0 < before < 26, ended.stderr
    assert not (folder / PLAN_NAME).exists(), ended.stderr
    assert swept(job) == Exit.COMPLETE
    assert f"{before} of 26 slices of them are there" in caplog.text
    assert len(kept(folder)) == len(set(kept(folder))) == 26
    assert results(tmp_path / "surface.h5") == undisturbed


@pytest.mark.slow
def test_a_shard_goes_on_with_what_another_has_done_and_the_others_take_the_plan(tmp_path, caplog):
    caplog.set_level(logging.INFO, "landscape_mpi")
    job, folder = line_job(tmp_path), journal_folder(tmp_path / "surface.h5")
    assert swept(job, "0/3", stop_at(folder, 5)) == Exit.RUN_AGAIN
    assert swept(job, "1/3") == Exit.COMPLETE
    assert "5 of 26 slices of them are there" in caplog.text
    assert len(kept(folder)) == len(set(kept(folder))) == 26
    caplog.clear()
    assert [swept(job, shard) for shard in ("0/3", "2/3")] == [Exit.COMPLETE] * 2
    assert FIRST not in caplog.text


@pytest.mark.slow
def test_starting_afresh_a_shard_leaves_what_others_have_done_and_a_whole_sweep_does_not(tmp_path, caplog):
    caplog.set_level(logging.INFO, "landscape_mpi")
    job, folder = line_job(tmp_path), journal_folder(tmp_path / "surface.h5")
    assert swept(job, "0/2", stop_at(folder, 5)) == Exit.RUN_AGAIN
    assert swept(job, "1/2", stop_at(folder, 7), overwrite=True) == Exit.RUN_AGAIN
    assert len(kept(folder)) == 7
    whole = Stop(clock=lambda: math.inf if (folder / "pilots.rank-00000.journal").exists() else 0.0)
    assert swept(job, stop=whole, overwrite=True) == Exit.RUN_AGAIN
    assert len(kept(folder)) <= 1


@pytest.mark.slow
def test_those_of_another_job_are_refused_before_anything_is_written(tmp_path):
    job, folder = line_job(tmp_path), journal_folder(tmp_path / "surface.h5")
    assert swept(job, stop=stop_at(folder, 2)) == Exit.RUN_AGAIN
    (tmp_path / "surface.h5").unlink()
    other = line_job(tmp_path, name="other.yaml", plane={"kind": "random", "seed": 9})
    with pytest.raises(Exception, match="holds the losses of another sweep"):
        swept(other)
    assert not (tmp_path / "surface.h5").exists()


@pytest.mark.slow
def test_one_that_fails_twice_is_passed_over_where_points_may_fail(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_LARGEST", "2.5")
    job, folder = line_job(tmp_path, loss="tiny:fails_at_times"), journal_folder(tmp_path / "surface.h5")
    assert swept(job, tolerant=True) == Exit.FAILED_POINTS
    points = [point for _, point, _ in kept(folder)]
    assert sorted(points.count(point) for point in set(points))[-1] == 13
    assert len(points) < 26


def all_pieces():
    return pieces_of([3, 8], {"train": 4000, "test": 1000}, 16)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shards_in_step_seldom_do_the_same_piece(count):
    pieces, done = all_pieces(), []
    origins = [PerExample(np.zeros(1))] * 2
    shards = [(Pilots(pieces, origins), Shard(index, count)) for index in range(count)]
    while any(pilots.missing for pilots, _ in shards):
        taken = [piece for pilots, shard in shards for piece in pilots.share(shard, 1)]
        done += taken
        for pilots, _ in shards:
            pilots.add(Evaluated(one.point, one.split, one.start, PerExample(np.zeros(one.examples))) for one in taken)
    assert set(done) == set(pieces)
    assert len(done) <= len(pieces) + count


def test_a_shard_alone_does_all_of_them_and_a_whole_sweep_at_once():
    pieces = all_pieces()
    assert Pilots(pieces, []).share(None, 3) == pieces
    alone, done = Pilots(pieces, [PerExample(np.zeros(1))] * 2), []
    while taken := alone.share(Shard(4, 5), 2):
        done += taken
        alone.add(Evaluated(one.point, one.split, one.start, PerExample(np.zeros(one.examples))) for one in taken)
    assert sorted(done, key=pieces.index) == pieces
    assert [one.found.losses.size for one in alone.results()] == [4000, 1000, 4000, 1000]


def test_records_of_other_pieces_or_lengths_or_metrics_count_for_nothing():
    piece = all_pieces()[0]
    pilots = Pilots([piece], [PerExample(np.zeros(1))])
    zeros = np.zeros(piece.examples)
    pilots.add(
        [
            Evaluated(piece.point + 1, piece.split, piece.start, PerExample(zeros)),
            Evaluated(piece.point, piece.split, piece.start, PerExample(zeros[1:])),
            Evaluated(piece.point, piece.split, piece.start, PerExample(zeros, {"acc": zeros > 0})),
        ]
    )
    assert pilots.missing == [0]
