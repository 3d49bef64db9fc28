"""A mistake on one rank is everybody's; ranks load nothing heavy by themselves."""

import pickle
import subprocess
import sys

import pytest

from landscape_mpi.errors import Key, UserError
from landscape_mpi.mpi.world import RankError, Solo, on_ranks, on_root, together

MODULES = "landscape_mpi.mpi.scheduler, landscape_mpi.mpi.communicator"
IMPORT = f"import sys, {MODULES}; print(sorted({{'torch', 'mpi4py', 'matplotlib'}} & set(sys.modules)))"


def test_a_step_gives_its_value():
    assert together(Solo(), divmod, 7, 2) == (3, 1)
    assert on_root(Solo(), sorted, [1, 2], reverse=True) == [2, 1]


def test_a_step_that_is_not_for_this_rank_is_not_run():
    assert on_ranks(Solo(), True, len, "ab") == 2
    assert on_ranks(Solo(), False, sys.exit) is None


class AsByMessages(Solo):
    """Its values are pickled on their way, as MPI does with those of several ranks."""

    def allgather(self, value):
        return pickle.loads(pickle.dumps([value]))


def test_a_mistake_stays_a_sentence_and_a_bug_names_the_rank():
    def mistake():
        raise UserError("grid", "found 3", remedy="mend it")

    def bug():
        raise IndexError("far out")

    with pytest.raises(UserError, match="grid: found 3; mend it") as found:
        together(AsByMessages(), mistake)
    assert (found.value.key, found.value.remedy) == (Key("grid"), "mend it")
    with pytest.raises(RankError, match=r"(?s)rank 0 on .*IndexError: far out"):
        together(Solo(), bug)


def test_memory_that_runs_out_is_a_sentence():
    def starved():
        raise MemoryError("Unable to allocate 3 TiB")

    with pytest.raises(UserError, match=r"^rank 0 on .*: there is not enough memory .* \(Unable to allocate"):
        together(Solo(), starved)


def test_an_exit_on_one_rank_is_everybodys_and_ctrl_c_on_one_alone_stays_what_it_is():
    with pytest.raises(RankError, match=r"(?s)rank 0 on .*SystemExit: 0"):
        together(Solo(), sys.exit, 0)
    with pytest.raises(KeyboardInterrupt):
        together(Solo(), interrupted)


def interrupted():
    raise KeyboardInterrupt


@pytest.mark.slow
def test_importing_ranks_loads_neither_torch_nor_mpi():
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
