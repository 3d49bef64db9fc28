"""A command that can be killed: one rank, all of them, or the launcher alone; for `faults.py`."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from scaling import SETTINGS

from landscape_mpi.mpi.launcher import launcher_of

MARK = "LANDSCAPE_FAULTS_RUN"
ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
GONE = 60.0
"""Seconds until processes that outlive their kill count as hung; a loaded machine needs some."""
ONE, ALL, LAUNCHER = "one rank", "all at once", "mpirun alone"


class Victim:
    """A started command; all its processes carry a mark in their environment."""

    def __init__(self, folder: Path, arguments: list[str], ranks: int, extra: Mapping[str, str]) -> None:
        """Start `python -m landscape_mpi ARGUMENTS` in a folder, under mpirun where there are several ranks."""
        self._mark = str(uuid.uuid4())
        self.ranks = ranks
        self._processes = ranks if arguments[0] == "merge" else 2 * ranks  # a rank and the process above it
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        self._output = (folder / "output.txt").open("w")
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "landscape_mpi", *arguments],
            cwd=folder,
            env={**os.environ, **SETTINGS, **ROOT, **extra, MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def members(self) -> dict[int, int | None]:
        """Return the living processes of this command, each with its rank; None for the launcher's own."""
        found = {}
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                variables = environ.read_bytes().split(b"\0")
                if f"{MARK}={self._mark}".encode() in variables:
                    found[int(environ.parent.name)] = _rank(variables)
        return found

    def targets(self, kind: str, draw: Random) -> list[int]:
        """Return the processes that a kind of kill is for, once all ranks are there."""
        self.wait_until(lambda: len(self._ranks()) >= self._processes)
        if kind == ALL:
            return list(self.members())
        ranks = self._ranks()
        return [self.process.pid] if kind == LAUNCHER or not ranks else [draw.choice(ranks)]

    def one(self, draw: Random) -> list[int]:
        """Return one of the processes that are ranks by now, or above one; none where there is none yet."""
        ranks = sorted(self._ranks())
        return [draw.choice(ranks)] if ranks else []

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or once the command has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def said(self) -> str:
        """Return what it has printed."""
        return (Path(self._output.name)).read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], nap: float = 0.005) -> None:
        """Return once the condition holds or the command has ended."""
        while not condition() and self.process.poll() is None:
            time.sleep(nap)

    def all_gone(self) -> bool:
        """Wait for every process to end; kill what is left after a while, and return whether nothing was."""
        deadline = time.monotonic() + GONE
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.02)
        kill(left)
        self.process.wait()
        self._output.close()
        return not left

    def end(self, patience: float) -> int | None:
        """Return the exit code; None where it did not end in time, and was killed."""
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(patience)
            return code if self.all_gone() else None
        kill(self.members())
        self.all_gone()
        return None

    def _ranks(self) -> list[int]:
        return [pid for pid, rank in self.members().items() if rank is not None or self.ranks == 1]


def kill(processes: "list[int] | dict[int, int | None]") -> None:
    """Kill -9."""
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _rank(variables: list[bytes]) -> int | None:
    pairs = (os.fsdecode(variable).partition("=") for variable in variables)
    launcher = launcher_of({name: value for name, _, value in pairs})
    return launcher.rank if launcher else None
