"""The world of many ranks on a real MPI: one copy of the data a node, and nobody spins while waiting."""

import json
import sys

import pytest

from support.launch import launch

SHARE = """
import json, sys
from pathlib import Path
import numpy as np
from landscape_mpi.mpi.communicator import open_world

def pss():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024

world = open_world()
before = sum(world.allgather(pss()))
world.barrier()
made = [np.arange(8_000_000.0), np.ones((3, 5), np.uint8)] if world.local_rank == 0 else []
shared = world.share(made)
del made
ok = shared[0].sum() == 31999996000000.0 and shared[1].shape == (3, 5) and int(shared[1].sum()) == 15
world.barrier()
grown = sum(world.allgather(pss())) - before
world.barrier()
if world.rank == 0:
    print(json.dumps([all(world.allgather(ok)), grown / shared[0].nbytes]))
else:
    world.allgather(ok)
"""

WAIT = """
import json, time
from landscape_mpi.mpi.communicator import open_world

world = open_world()
world.barrier()
cpu, wall = time.process_time(), time.perf_counter()
if world.rank == 0:
    time.sleep(2)
world.barrier()
share = (time.process_time() - cpu) / (time.perf_counter() - wall)
shares = world.allgather(share)
if world.rank == 0:
    print(json.dumps(shares))
"""


def output_of(script, ranks):
    run = launch(script, ranks=ranks, program=(sys.executable, "-c"))
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.mpi
def test_eight_ranks_hold_one_copy():
    right, copies = output_of(SHARE, 8)
    assert right
    assert 0.9 < copies < 1.6


def cramped(where):
    """SHARE on a node whose shared memory has no room, and whose temporary folder may have none either."""
    return f"""
from landscape_mpi.mpi import communicator
communicator.free_bytes = lambda _: 2_000_000
if {where == "nowhere"}:
    communicator.new_file = lambda _: None
{SHARE}"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("where", "most", "words"), [("file", 1.6, "they use a file in"), ("nowhere", 4, "a copy per rank")]
)
def test_shared_memory_without_room_is_told_and_done_without(where, most, words):
    """Containers have 64 MB of it as a rule; MPI dies of a window that is larger."""
    run = launch(cramped(where), ranks=3, program=(sys.executable, "-c"))
    assert run.returncode == 0, run.stderr
    right, copies = json.loads(run.stdout)
    assert right
    assert 0.9 < copies < most
    assert run.stderr.count("note: ") == 1
    assert "has 2 MB free, and the node's 3 ranks share 64 MB" in run.stderr
    assert words in run.stderr


@pytest.mark.mpi
def test_a_waiting_rank_leaves_its_core_to_others():
    assert max(output_of(WAIT, 4)) < 0.25
