"""A process above a rank, so that its launcher does not see the rank die; knows neither MPI nor the work.

A launcher ends the whole job when one of its processes dies. So what it starts is the keeper, and the rank its child:
Open MPI and MPICH take that as they take a script that calls Python. The keeper ends as its rank ends, except where the
rank is killed while the others can do without it: then it stays until rank 0 is gone.
"""

import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from landscape_mpi.presence import Presence
from landscape_mpi.stop import SIGNALS

LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""What Open MPI's and MPICH's mpirun say of the number of ranks."""
RECOVERS = "OMPI_MCA_orte_enable_recovery"
"""What Open MPI's `mpirun --enable-recovery` says: a dead rank does not end the job. It returns 0 whatever happens."""
LOOK = 0.5
"""Seconds between two looks at whether the launcher is still there."""


class Keeper:
    """The rank's end of the line to its keeper."""

    def __init__(self, line: int) -> None:
        self._line = line

    def forgive(self, place: Path) -> None:
        """From now on the others can do without this rank; `place` is where their presence shows."""
        os.write(self._line, b"%s\n" % os.fsencode(place))

    def mind(self) -> None:
        """From now on they cannot."""
        os.write(self._line, b"\n")


def recovers(environment: Mapping[str, str]) -> bool:
    """Whether the launcher lets the others go on when a process of its own dies."""
    return environment.get(RECOVERS, "0").lower() in ("1", "t", "true", "y", "yes", "enabled")


def keep(environment: Mapping[str, str]) -> Keeper | None:
    """Fork: the child returns and is the rank, this process becomes its keeper and never returns.

    Returns:
        None in this process where it is the only rank, where the launcher needs no keeper or is not known.
    """
    sizes = [environment.get(name, "") for name in LAUNCHED]
    if recovers(environment) or not any(size.isdecimal() and int(size) > 1 for size in sizes):
        return None
    ours, its = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it is known whom to pass them on to
    child = os.fork()
    if child == 0:
        os.close(ours)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return Keeper(its)
    os.close(its)
    for number in SIGNALS:
        signal.signal(number, lambda number, _: _pass_on(child, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    _watch(child, ours)
    raise RuntimeError("a keeper came back; expected it to end with its rank.")


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, number)


def _watch(child: int, line: int) -> None:
    """Wait for the rank's end and end alike."""
    launcher, said = os.getppid(), b""
    while os.getppid() == launcher:
        if select.select([line], [], [], LOOK)[0]:
            heard = os.read(line, 1 << 16)
            said = heard.split(b"\n")[-2] if heard else said
            if heard:
                continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            _end(status, said, launcher)
        time.sleep(LOOK / 100)
    os._exit(1)


def _end(status: int, place: bytes, launcher: int) -> None:
    if place:
        _heed(signal.SIG_IGN)  # what the launcher passes on is for the ranks that live
        _stay(Path(os.fsdecode(place)), launcher)
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    _heed(signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core dump of a crash is enough
    os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(1)


def _heed(how: signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, how)


def _stay(place: Path, launcher: int) -> None:
    """Stay for as long as rank 0, on whose end the launcher ends the job."""
    try:
        presence = Presence(place, None)
    except OSError:  # rank 0 has removed it
        return
    while os.getppid() == launcher and not presence.gone(0):
        time.sleep(LOOK)
