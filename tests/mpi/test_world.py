"""A launcher of another MPI is refused; a mistake on one rank is everybody's."""

import pickle
import sys

import pytest

from landscape_mpi.errors import Key, UserError
from landscape_mpi.mpi.world import RankError, Solo, check_launcher, on_ranks, on_root, together


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_many_worlds_of_one_are_refused(name):
    with pytest.raises(UserError, match=f"started 4 processes \\({name}\\)"):
        check_launcher(1, {name: "4"})


def test_a_fitting_launcher_and_none_pass():
    check_launcher(4, {"OMPI_COMM_WORLD_SIZE": "4"})
    check_launcher(1, {"OMPI_COMM_WORLD_SIZE": "1"})
    check_launcher(1, {})


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
