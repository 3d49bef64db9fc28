"""The state of a sampled sweep that is stopped anywhere, again and again: the same bits, each round written once."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape_mpi.job import Sampling
from landscape_mpi.metrics.base import ACCURACY, LOSS
from landscape_mpi.metrics.examples import PerExample
from landscape_mpi.sampling import Rounds
from landscape_mpi.surface import Evaluated, Journal, PlanLog, begin_plan, read_journals, read_plan
from landscape_mpi.surface.journal import THETA, read_records
from landscape_mpi.surface.plan import PLAN, ROUND
from landscape_mpi.sweeping.sampled import climbs, frame_of
from landscape_mpi.sweeping.sampled_state import SampledState, SplitState

POINTS, EXAMPLES, IDENTITY = 9, 1500, b"i" * 32
SAMPLING = Sampling(error=0.03, audit=2)
LABELS = np.arange(EXAMPLES) % 10


def per_example(point, split):
    """What each example gives at a point: lognormal losses, wider and wider from the first point on."""
    draw = np.random.default_rng([point, split])
    losses = np.exp(draw.normal(0.1 * point, 0.2 + 0.15 * point, EXAMPLES))
    return PerExample(losses, {"acc": draw.random(EXAMPLES) < 0.7})


def origins():
    return [Evaluated(THETA, split, 0, per_example(POINTS, split)) for split in (0, 1)]


def run(folder, stop_after=None):
    """Sweep with what is in the folder until so many slices have come back; return the results if it got to the end."""
    plan = begin_plan(folder, IDENTITY, origins())
    splits = []
    for split, name in enumerate(("train", "test")):
        origin = plan.origins[split].found
        frame = frame_of(origin.losses, LABELS, SAMPLING, split)
        rounds = Rounds(frame, origin, POINTS, SAMPLING.error, plan.rounds[split])
        splits.append(SplitState(name, rounds, SAMPLING, (LOSS, ACCURACY)))
    state = SampledState(splits, 16, range(POINTS), list(read_journals(folder, IDENTITY)))
    with PlanLog(folder, IDENTITY) as log, Journal(folder, 0, IDENTITY) as journal:
        while pieces := state.next(log.add):
            for piece in pieces:
                if stop_after == 0:
                    return None
                stop_after = None if stop_after is None else stop_after - 1
                order = splits[piece.split].rounds.ladder.frame.order[piece.start : piece.stop]
                found = Evaluated(piece.point, piece.split, piece.start, per_example(piece.point, piece.split)[order])
                journal.add(found)
                state.take(found)
    return {name: values.tobytes() for name, values in state.results().items()}


def written(folder):
    """The rounds in the plan's log as they stand there, split by split."""
    payloads = [
        json.loads(record[1:])
        for record in read_records(folder / "plan.journal", PLAN, IDENTITY)
        if record[:1] == ROUND
    ]
    return [[one["promotions"] for one in payloads if one["split"] == split] for split in (0, 1)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of a sweep that nobody stopped, its rounds, and how many slices it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    results, rounds = run(folder), written(folder)
    assert min(map(len, rounds)) >= 2
    return results, rounds, len(list(read_journals(folder, IDENTITY)))


@pytest.mark.slow
@settings(max_examples=25)
@given(stops=st.lists(st.integers(0, 110), max_size=6))
def test_stopped_after_any_slices_any_number_of_times(undisturbed, stops):
    results, rounds, slices = undisturbed
    with TemporaryDirectory() as name:
        folder = Path(name)
        for stop in stops:
            run(folder, stop)
        assert run(folder) == results
        assert written(folder) == rounds
        assert len(list(read_journals(folder, IDENTITY))) == slices


@pytest.mark.parametrize(("begun", "again"), [(2, 1), (2, 2), (1, 1)])
def test_rounds_that_were_written_once_more_count_once(tmp_path, undisturbed, begun, again):
    results, rounds, _ = undisturbed
    run(tmp_path, 10)  # the first level alone
    with PlanLog(tmp_path, IDENTITY) as log:
        for split in (0, 1):
            for promotions in [*rounds[split][:begun], *rounds[split][:again], *rounds[split][begun:]]:
                log.add(split, promotions)
    plan = read_plan(tmp_path, IDENTITY)
    assert plan.repeated == 2 * again
    kept = json.loads(json.dumps(plan.rounds))  # lists for tuples
    assert kept == rounds
    assert run(tmp_path) == results


def test_rounds_that_contradict_each_other_are_no_repetition(tmp_path):
    begin_plan(tmp_path, IDENTITY, origins())
    with PlanLog(tmp_path, IDENTITY) as log:
        for promotions in ([[0, 2]], [[0, 1]]):
            log.add(0, promotions)
    plan = read_plan(tmp_path, IDENTITY)
    assert plan.repeated == 0
    assert not climbs(plan.rounds[0], POINTS, 3)
