"""The world of many ranks on a real MPI: one copy of the data a node, and nobody spins while waiting."""

import json
import sys

import pytest

from support.launch import launch

SHARE = """
import json, sys
from pathlib import Path
import numpy as np
from landscape_mpi.ranks import open_world

def pss():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024

world = open_world()
before = sum(world.everywhere(pss()))
world.meet()
made = [np.arange(8_000_000.0), np.ones((3, 5), np.uint8)] if world.local_rank == 0 else []
shared = world.share(made)
del made
ok = shared[0].sum() == 31999996000000.0 and shared[1].shape == (3, 5) and int(shared[1].sum()) == 15
world.meet()
grown = sum(world.everywhere(pss())) - before
world.meet()
if world.rank == 0:
    print(json.dumps([all(world.everywhere(ok)), grown / shared[0].nbytes]))
else:
    world.everywhere(ok)
"""

WAIT = """
import json, time
from landscape_mpi.ranks import open_world

world = open_world()
world.meet()
cpu, wall = time.process_time(), time.perf_counter()
if world.rank == 0:
    time.sleep(2)
world.meet()
share = (time.process_time() - cpu) / (time.perf_counter() - wall)
shares = world.everywhere(share)
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


@pytest.mark.mpi
def test_a_waiting_rank_leaves_its_core_to_others():
    assert max(output_of(WAIT, 4)) < 0.25
