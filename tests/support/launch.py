"""Runs the real command in processes of its own, alone or on MPI ranks; knows Open MPI and MPICH, nothing of surfaces.

No shell is involved. Every run has a process session of its own and a mark in its environment: `kill_session` reaches
mpirun and all its ranks at once, as a power cut would (MPICH gives each rank yet another session).
"""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from support.keeper import kill_all, marked

COMMAND = (sys.executable, "-m", "landscape_mpi")
ROOT_AND_FEW_CORES = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
}
# A test process that has called MPI_Init would pass these on, and its children would believe to be its ranks.
OF_ANOTHER_WORLD = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "PMIX_", "PMI_", "HYDI_")
MARK = "LANDSCAPE_TEST_RUN"


class Run(subprocess.Popen[str]):
    """A started command; all its descendants carry `mark` in their environment."""

    def __init__(self, line: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> None:
        self.line = list(line)
        self.mark = f"{MARK}={uuid.uuid4()}"
        super().__init__(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**env, MARK: self.mark.partition("=")[2]},
            start_new_session=True,
        )

    def members(self) -> list[int]:
        """The living processes of this run."""
        return marked(self.mark)


def mpirun() -> str | None:
    """The mpirun beside this Python, else the one in PATH."""
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


@cache
def is_open_mpi(program: str) -> bool:
    """Whether this mpirun is Open MPI's, whose ranks are bound to cores unless told otherwise."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    return "open" in (answer.stdout + answer.stderr).lower()


def command_line(*args: str | Path, ranks: int | None = None, program: Sequence[str] = COMMAND) -> list[str]:
    """The argument list of `program ARGS`, under `mpirun -n RANKS` where ranks are asked for."""
    line = [*program, *map(str, args)]
    if ranks is None:
        return line
    launcher = mpirun()
    if launcher is None:
        message = "there is no mpirun: mark the test with pytest.mark.mpi"
        raise FileNotFoundError(message)
    binding = ["--bind-to", "none"] if is_open_mpi(launcher) else []
    return [launcher, *binding, "-n", str(ranks), *line]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, outside any MPI world, with root and more ranks than cores allowed."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(OF_ANOTHER_WORLD)}
    return own | ROOT_AND_FEW_CORES | dict(extra or {})


def start(
    *args: str | Path,
    ranks: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    program: Sequence[str] = COMMAND,
) -> Run:
    """Start `python -m landscape_mpi ARGS` and return at once; end it with `finish` or `kill_session`.

    Args:
        *args: what follows the program's name.
        ranks: under `mpirun -n RANKS`; None starts one process without mpirun.
        env: variables on top of `environment()`.
        cwd: the folder to run in.
        program: what is run instead of `python -m landscape_mpi`.
    """
    return Run(command_line(*args, ranks=ranks, program=program), cwd, environment(env))


def finish(process: Run, timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for a started process; one that takes longer is killed with all its ranks, and its output shown.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_session(process)
        out, err = process.communicate()
        message = f"still running after {timeout} s: {process.line}\n{out}\n{err}"
        raise TimeoutError(message) from None
    except BaseException:
        kill_session(process)
        raise
    return subprocess.CompletedProcess(process.line, process.returncode, out, err)


def launch(
    *args: str | Path,
    ranks: int | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    cwd: Path | None = None,
    program: Sequence[str] = COMMAND,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m landscape_mpi ARGS` to its end; arguments as for `start`, timeout in seconds as for `finish`."""
    return finish(start(*args, ranks=ranks, env=env, cwd=cwd, program=program), timeout)


def kill_session(process: Run, patience: float = 10) -> None:
    """Kill -9 a started process, and with it mpirun and every rank, and wait until none is left.

    Raises:
        TimeoutError: some of them are still there after `patience` seconds.
    """
    kill_all(process.members, patience)
    process.wait()
