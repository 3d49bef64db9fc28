"""Files that differ between nodes are noticed before anything is computed."""

import json
import sys

import pytest

from support.launch import launch

DISAGREE = """
import json
from landscape_mpi.errors import UserError
from landscape_mpi.mpi.communicator import open_world
from landscape_mpi.sweeping.load import agreed

world = open_world()
same = agreed(world, "data", "abc" if world.rank != 1 else None)
try:
    agreed(world, "plane", str(world.rank == 2))
    said = None
except UserError as error:
    said = str(error)
said = world.allgather(said)
if world.rank == 0:
    print(json.dumps([same, *said]))
"""


@pytest.mark.mpi
def test_ranks_that_hold_different_planes_all_say_so():
    run = launch(DISAGREE, ranks=3, program=(sys.executable, "-c"))
    assert run.returncode == 0, run.stderr
    same, *said = json.loads(run.stdout)
    assert same == "abc"
    assert len(set(said)) == 1
    assert said[0].startswith("plane: rank 2 holds another plane than rank 0")
