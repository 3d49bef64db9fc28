"""How ranks wait: asleep, and never for each other's naps; a failed rank's message arrives however long it is."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landscape_mpi.mpi import world
from support.launch import launch

SEND = """
import json, time
from landscape_mpi.mpi.communicator import open_world

world = open_world()
world.barrier()
cpu, wall = time.process_time(), time.perf_counter()
if world.rank == 1:
    for number in range(100):
        world.send((number, "x" * 1000), 0)
heard = []
if world.rank == 0:
    time.sleep(1)
    while len(heard) < 100:
        heard += [found[1][0] for found in [world.poll()] if found]
world.barrier()
share = (time.process_time() - cpu) / (time.perf_counter() - wall)
shares = world.allgather(share)
if world.rank == 0:
    print(json.dumps([heard, shares[1]]))
"""

FAIL = """
from landscape_mpi.mpi.communicator import open_world
from landscape_mpi.mpi.scheduler import PieceError
from landscape_mpi.mpi.dispenser import Handlers
from landscape_mpi.mpi.scheduler import share_out

world = open_world()

def compute(piece):
    if world.rank == 1:
        raise PieceError("it broke " + "x" * 100_000)
    return piece

share_out(world, range(10**6), Handlers(compute, lambda _: None, lambda _: None, lambda *_: None))
"""


@given(st.integers(0, 200))
def test_naps_grow_but_stay_short_against_the_wait_so_far(looks):
    slept = []
    answers = iter([None] * looks + ["found"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.time, "sleep", slept.append)
        assert world.wait_for(lambda: next(answers)) == "found"
    assert len(slept) == looks
    for number, nap in enumerate(slept):
        assert world.FIRST_NAP <= nap <= world.NAP
        assert nap <= world.FIRST_NAP + 0.25 * sum(slept[:number]) + 1e-12


@pytest.mark.mpi
def test_a_sender_does_not_wait_for_the_receiver_and_nothing_is_lost():
    run = launch(SEND, ranks=2, program=(sys.executable, "-c"))
    assert run.returncode == 0, run.stderr
    heard, share = json.loads(run.stdout)
    assert heard == list(range(100))
    assert share < 0.25


@pytest.mark.mpi
def test_a_failure_of_any_length_ends_the_job_with_its_message():
    run = launch(FAIL, ranks=2, program=(sys.executable, "-c"))
    assert run.returncode == 1
    assert run.stderr.count("error: it broke " + "x" * 100_000) == 1
