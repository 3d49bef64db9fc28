"""The tests' own launcher: separate from pytest's MPI world, and able to kill a run with all of its ranks."""

import sys
import time

import pytest

from support.launch import environment, kill_session, launch, start

PYTHON = (sys.executable, "-c")
SAY_RANK = "from mpi4py import MPI; print(f'{MPI.COMM_WORLD.rank}/{MPI.COMM_WORLD.size}\\n', end='')"
SLEEP = "from mpi4py import MPI; import time; time.sleep(600)"


def test_output_and_exit_code_come_back() -> None:
    run = launch(program=(*PYTHON, "import sys; print('out'); sys.exit('err')"))
    assert (run.returncode, run.stdout, run.stderr) == (1, "out\n", "err\n")


def test_variables_of_another_mpi_world_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "7")
    monkeypatch.setenv("OMPI_MCA_btl", "self,tcp")
    own = environment({"LANDSCAPE": "1"})
    assert "OMPI_COMM_WORLD_SIZE" not in own
    assert (own["OMPI_MCA_btl"], own["LANDSCAPE"]) == ("self,tcp", "1")


@pytest.mark.mpi
def test_ranks_share_one_world_on_any_number_of_cores() -> None:
    run = launch(SAY_RANK, ranks=5, program=PYTHON)
    assert sorted(run.stdout.split()) == [f"{rank}/5" for rank in range(5)]


@pytest.mark.mpi
def test_killing_leaves_no_rank_behind() -> None:
    run = start(SLEEP, ranks=3, program=PYTHON)
    deadline = time.monotonic() + 60
    while len(run.members()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(run.members()) >= 4
    kill_session(run)
    assert run.members() == []
    assert run.returncode == -9


@pytest.mark.mpi
def test_a_run_that_takes_too_long_is_killed_and_shown() -> None:
    with pytest.raises(TimeoutError, match=r"still running after 2 s: .*mpirun"):
        launch(SLEEP, ranks=2, program=PYTHON, timeout=2)
