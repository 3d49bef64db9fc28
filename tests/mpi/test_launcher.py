"""The nearest launcher counts; a shell and a notebook of a SLURM step have none; another MPI's is refused."""

import sys

import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.mpi.launcher import Launcher, check_launcher, choose_device, launcher_of, local_rank_from
from support.launch import launch

OPEN = """
import sys
from landscape_mpi.errors import UserError
from landscape_mpi.mpi.communicator import open_world, world_if_started
try:
    print([type(world).__name__ + str(world.size) for world in (world_if_started(), open_world())])
except UserError as error:
    sys.exit(f"error: {error}")
"""


def step(tasks, **more):
    """What SLURM 22.05 says of itself to a task; Open MPI asks for some of these as well."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_JOBID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_STEPID": "0",
        "SLURM_NODELIST": "here",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_TASKS_PER_NODE": str(tasks),
    } | more


PTY = {"SLURM_PTY_PORT": "32797"}
OMPI = {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # the batch script itself
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}, Launcher("OMPI_COMM_WORLD_SIZE", 3, 2)),
        ({"PMI_SIZE": "3", "PMI_RANK": "2"}, Launcher("PMI_SIZE", 3, 2)),
        ({"PMIX_RANK": "1"}, Launcher("PMIX_RANK", 1, 0)),
        (step(4) | OMPI, Launcher("OMPI_COMM_WORLD_SIZE", 1, 0)),
        (step(4, PMIX_RANK="0"), Launcher("SLURM_STEP_NUM_TASKS", 4, 0, slurm=True)),
        (step(1), Launcher("SLURM_STEP_NUM_TASKS", 1, 0, slurm=True, mute=True)),
        (step(4) | PTY, Launcher("SLURM_STEP_NUM_TASKS", 4, 0, slurm=True, mute=True, in_shell=True)),
        (step("?"), Launcher("SLURM_STEP_NUM_TASKS", 1, 0, slurm=True, mute=True)),
    ],
)
def test_the_nearest_launcher_counts(environment, expected):
    assert launcher_of(environment) == expected


@pytest.mark.parametrize("environment", [step(1), step(4) | PTY, step(4, PMIX_RANK="0") | PTY])
def test_a_shell_or_a_notebook_of_a_step_is_one_process_and_asks_no_mpi(environment):
    run = launch(OPEN, program=(sys.executable, "-c"), env=environment)
    assert (run.returncode, run.stdout) == (0, "['Solo1', 'Solo1']\n"), run.stderr


@pytest.mark.mpi
def test_tasks_that_do_not_see_each_other_are_refused_in_one_sentence():
    run = launch(OPEN, program=(sys.executable, "-c"), env=step(4))
    assert run.returncode == 1
    assert run.stderr.startswith(
        "error: the launcher started 4 processes (SLURM_STEP_NUM_TASKS) and each sees a world of 1"
    )
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_many_worlds_of_one_are_refused(name):
    with pytest.raises(UserError, match=f"started 4 processes \\({name}\\)"):
        check_launcher(1, {name: "4"})


def test_a_fitting_launcher_and_none_pass():
    check_launcher(4, {"OMPI_COMM_WORLD_SIZE": "4"})
    check_launcher(1, {"OMPI_COMM_WORLD_SIZE": "1"})
    check_launcher(1, {})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"SLURM_LOCALID": "3"}, 3),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "2", "SLURM_LOCALID": "0"}, 2),
        ({"MPI_LOCALRANKID": "1", "SLURM_LOCALID": "0"}, 1),
        ({"SLURM_LOCALID": "nonsense"}, 0),
    ],
)
def test_the_launchers_environment_is_the_fallback(environment, expected):
    assert local_rank_from(environment) == expected


@pytest.mark.parametrize(
    ("requested", "local_rank", "devices", "expected"),
    [
        ("auto", 0, 0, "cpu"),
        ("auto", 5, 0, "cpu"),
        ("auto", 0, 4, "cuda:0"),
        ("auto", 3, 4, "cuda:3"),
        ("auto", 7, 4, "cuda:3"),
        ("auto", 2, 1, "cuda:0"),
        ("cpu", 1, 4, "cpu"),
        ("cuda", 5, 4, "cuda:1"),
        ("cuda:2", 0, 4, "cuda:2"),
    ],
)
def test_device_of_a_rank(requested, local_rank, devices, expected):
    assert choose_device(requested, local_rank, devices) == expected


@pytest.mark.parametrize(("requested", "devices"), [("cuda", 0), ("cuda:4", 4), ("gpu", 2), ("cuda:x", 1)])
def test_a_device_that_is_not_there_is_refused(requested, devices):
    with pytest.raises(UserError, match="--device"):
        choose_device(requested, 0, devices)
