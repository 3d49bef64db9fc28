"""Runs the real command in processes of its own, alone or on MPI ranks; knows Open MPI and MPICH, nothing of surfaces.

A command is a fork of a process that has done its imports (`support.forks`): 0.2 s instead of 1.4 s. Ranks are as well:
what mpirun starts is a client of that process. A command starts afresh with `fresh=True`, and where it is to have other
variables that are read by an import. No shell is involved. Every run has a mark in its environment: `kill_session`
reaches mpirun and all its ranks at once, as a power cut would.
"""

import atexit
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

from support import forks
from support.forks import MARK
from support.keeper import kill_all, marked

COMMAND = (sys.executable, "-m", "landscape_mpi")
PLOT = (sys.executable, "-m", "landscape_mpi.plot")
PYTEST = (sys.executable, "-m", "pytest")
FORKED = {COMMAND, PLOT, PYTEST}
"""What is run in forks."""
PATIENCE = 10.0
"""Seconds within which what is killed has to be gone."""
ROOT_AND_FEW_CORES = {  # ranks that wait give way, also where they are as many as the cores
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_ALLOW_RUN_AS_ROOT": "1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
}
# A test process that has called MPI_Init would pass these on, and its children would believe to be its ranks.
OF_ANOTHER_WORLD = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "PMIX_", "PMI_", "HYDI_")


class Run(subprocess.Popen[str]):
    """A command started afresh; all its descendants carry `mark` in their environment."""

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


class Fork:
    """A command started in a fork of the server, with what tests use of a `Run`."""

    def __init__(self, server: "Server", line: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> None:
        self.line = [*line]
        self.mark = f"{MARK}={uuid.uuid4()}"
        self.returncode: int | None = None
        out, err = os.pipe(), os.pipe()
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a device
            streams = (nothing.fileno(), out[1], err[1])
            variables = {**env, MARK: self.mark.partition("=")[2]}
            self._connection = forks.ask(server.place, line[2:], cwd or Path.cwd(), variables, streams)
        for end in (out[1], err[1]):
            os.close(end)
        self.stdout, self.stderr = open(out[0]), open(err[0])  # noqa: PTH123, SIM115 - pipes, which `communicate` closes
        pid = forks.hear(self._connection)
        if pid is None:
            message = f"the server of forks has ended before {line}"
            raise ChildProcessError(message)
        self.pid = pid

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises TimeoutExpired after `timeout` seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.line, timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            status = forks.hear(self._connection)
            self.returncode = -9 if status is None else os.waitstatus_to_exitcode(status)
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read all that it says until its end. Raises TimeoutExpired after `timeout` seconds; can be called again."""
        deadline = None if timeout is None else time.monotonic() + timeout
        said = self.__dict__.setdefault("_said", {self.stdout: b"", self.stderr: b""})
        while open_ones := [stream for stream in said if not stream.closed]:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = select.select(open_ones, [], [], left)[0]
            if not ready:
                raise subprocess.TimeoutExpired(self.line, timeout or 0)
            for stream in ready:
                found = os.read(stream.fileno(), 1 << 16)
                said[stream] += found
                if not found:
                    stream.close()
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        out, err = (text.decode().replace("\r\n", "\n") for text in said.values())
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)

    def members(self) -> list[int]:
        """The living processes of this run."""
        return marked(self.mark)


class Server:
    """A process whose forks commands are."""

    def __init__(self, place: str, env: Mapping[str, str]) -> None:
        self.place, self.env = place, env
        self._worlds: list[socket.socket] = []

    def alone(self) -> dict[str, str]:
        """Return variables of a process without mpirun: Open MPI starts no daemon for it, which halves its start.

        Processes without a daemon have the same number, and in one folder one would remove what another is making.
        """
        folder = f"{Path(self.place).parent}/{uuid.uuid4().hex[:12]}"
        return {"OMPI_MCA_ess_singleton_isolated": "1", "OMPI_MCA_orte_tmpdir_base": folder}

    def world(self) -> str:
        """Make a server for the ranks of one mpirun, and return its place."""
        place = f"{Path(self.place).parent}/{uuid.uuid4()}"
        self._worlds.append(forks.world(self.place, place))
        forks.hear(self._worlds[-1])
        return place


def start_server() -> Server:
    """Start one that ends with this process; what is asked of it meanwhile waits for its imports."""
    env, folder = environment(), tempfile.mkdtemp(prefix="forks-")
    line = [sys.executable, forks.__file__, f"{folder}/socket"]
    process = subprocess.Popen(line, env=env, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def end() -> None:
        process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        message = "the server of forks does not start"
        raise ChildProcessError(message)
    return Server(line[2], env)


servers: list[Server] = []
"""The one that this process asks: `conftest.py` puts that of a whole run here."""


def server() -> Server:
    """The one server of this process, started when it is first asked for."""
    if not servers:
        servers.append(start_server())
    return servers[0]


Started: TypeAlias = Run | Fork


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
    fresh: bool = False,
) -> Started:
    """Start `python -m landscape_mpi ARGS` and return at once; end it with `finish` or `kill_session`.

    Args:
        *args: what follows the program's name.
        ranks: under `mpirun -n RANKS`; None starts one process without mpirun.
        env: variables on top of `environment()`.
        cwd: the folder to run in.
        program: what is run instead of `python -m landscape_mpi`.
        fresh: in a new interpreter, whatever is run.
    """
    variables = environment(env)
    if fresh or tuple(program[:3]) not in FORKED or not forks.fits(server().env, variables):
        return Run(command_line(*args, ranks=ranks, program=program), cwd, variables)
    if ranks is None:
        return Fork(server(), command_line(*args, program=program), cwd, server().alone() | variables)
    if not is_open_mpi(mpirun() or ""):
        return Run(command_line(*args, ranks=ranks, program=program), cwd, variables)
    program = (sys.executable, "-IS", forks.__file__, server().world(), "rank", *program[2:])
    return Run(command_line(*args, ranks=ranks, program=program), cwd, variables)


def finish(process: Started, timeout: float) -> subprocess.CompletedProcess[str]:
    """Wait for a started process; one that takes longer is killed with all its ranks, and its output shown.

    Raises:
        TimeoutError: it took longer than `timeout` seconds.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_all(process.members, PATIENCE)
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
    fresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m landscape_mpi ARGS` to its end; arguments as for `start`, timeout in seconds as for `finish`."""
    return finish(start(*args, ranks=ranks, env=env, cwd=cwd, program=program, fresh=fresh), timeout)


def kill_session(process: Started) -> None:
    """Kill -9 a started process, and with it mpirun and every rank; wait until none is left, and read nothing of it.

    Raises:
        TimeoutError: some of them are still there after `PATIENCE` seconds.
    """
    kill_all(process.members, PATIENCE)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()
