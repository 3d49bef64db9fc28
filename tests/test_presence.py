"""Who is still there: a rank's byte is locked until it dies, and a dead run's left-over says where rank 0 was."""

import os
import signal
import subprocess
import sys
import time

import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.keeper import keep, recovers
from landscape_mpi.presence import STALE, Presence, make_place

HOLD = """
import sys, time
from pathlib import Path
from landscape_mpi.presence import Presence
presence = Presence(Path(sys.argv[1]), int(sys.argv[2]))
presence.note(sys.argv[3])
print("there", flush=True)
time.sleep(600)
"""


def holder(place, rank, note=""):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(place), str(rank), note], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"there\n"
    return process


def test_a_rank_is_there_until_it_is_killed_whoever_looks(tmp_path):
    place = make_place(tmp_path / "later" / "s.h5").path
    assert place.parent == tmp_path  # nothing is made but the file
    first, second = Presence(place, 0), Presence(place, None)
    process = holder(place, 3)
    assert not first.gone(3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.gone(3)
    assert second.gone(3)
    assert first.gone(3)


def test_a_byte_belongs_to_one(tmp_path):
    place = make_place(tmp_path / "s.h5").path
    process = holder(place, 1)
    with pytest.raises(UserError, match="cannot be locked"):
        Presence(place, 1)
    process.kill()
    process.wait()


def test_the_left_over_of_a_dead_run_is_read_and_removed_and_that_of_a_living_one_stays(tmp_path):
    surface = tmp_path / "s.h5"
    dead, living = make_place(surface).path, make_place(surface).path
    processes = [holder(dead, 0, "alpha 1, beta 0"), holder(living, 0, "alpha 2, beta 0")]
    processes[0].kill()
    processes[0].wait()
    old = make_place(surface).path
    assert not dead.exists()
    os.utime(old, times=(0, time.time() - 2 * STALE))
    made = make_place(surface)
    assert made.blamed == frozenset()
    assert sorted(tmp_path.iterdir()) == sorted([living, made.path])
    processes[1].kill()
    processes[1].wait()
    assert make_place(surface).blamed == {"alpha 2, beta 0"}


def test_recovery_is_what_open_mpi_says():
    assert recovers({"OMPI_MCA_orte_enable_recovery": "1"})
    assert not recovers({"OMPI_MCA_orte_enable_recovery": "0"})
    assert not recovers({})


@pytest.mark.parametrize(
    "environment",
    [{}, {"OMPI_COMM_WORLD_SIZE": "1"}, {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_MCA_orte_enable_recovery": "1"}],
    ids=["alone", "one rank", "recovery"],
)
def test_no_keeper_where_none_is_needed(environment):
    assert keep(environment) is None
