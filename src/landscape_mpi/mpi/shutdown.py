"""Tells whether a rank should stop before its work is done: a signal came, its time is up, or SLURM ends the job."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
LEAD = 5.0
"""Seconds before the limit at which to stop, for closing the file; a twentieth of a limit below 100 seconds."""
JOB_END = "SLURM_JOB_END_TIME"
"""The variable that SLURM sets from 22.05 or 23.02 on, depending on who built it: seconds since 1970."""
PATIENCE = 10.0
"""Seconds to wait for squeue, which asks a server that may be busy."""


class Interrupted(BaseException):
    """This rank has been told to stop; what it had in hand is dropped."""


class Stop:
    """The reasons for this rank to stop: a signal, or a time limit."""

    def __init__(self, until: float | None = None, clock: Callable[[], float] = time.time) -> None:
        """Take the time of the clock, in seconds since 1970, from which on to stop; None for never."""
        self._until, self._clock = until, clock
        self._signal = ""

    def limit(self, until: float | None) -> None:
        """Set the time from which on to stop; None for never."""
        self._until = until

    @property
    def reason(self) -> str:
        """Why to stop, such as `SIGTERM` or `the time limit`; empty while there is no reason."""
        if not self._signal and self._until is not None and self._clock() >= self._until:
            return "the time limit"
        return self._signal

    def check(self) -> None:
        """Drop what is in hand where there is a reason to stop.

        Raises:
            Interrupted: there is a reason to stop.
        """
        if self.reason:
            raise Interrupted(self.reason)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM, SIGINT and SIGUSR1 as reasons to stop while the block runs; a signal sent twice counts once.

        A handler that is not Python's own could not be put back, and stays. Processes that are forked meanwhile, such
        as workers of multiprocessing and of DataLoaders, have the earlier handlers. If a signal reaches such a process
        before it has them, the signal waits until then: this handler would lose it, and its sender would wait for ever.
        """
        ours = [number for number in SIGNALS if signal.getsignal(number) is not None]
        before = {number: signal.signal(number, self._heard) for number in ours}
        masks: list[set[int]] = []

        def hold() -> None:
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, before))

        def let_through() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def as_before() -> None:
            put_back()
            let_through()

        os.register_at_fork(before=hold, after_in_parent=let_through, after_in_child=as_before)
        try:
            yield
        finally:
            put_back()
            before.clear()  # functions that are registered for forks stay registered

    def _heard(self, number: int, _: FrameType | None) -> None:
        self._signal = signal.Signals(number).name


NEVER = Stop()
"""Never a reason to stop."""


def stop_time(limit: float | None, slurm_end: float | None, now: float) -> float | None:
    """Return when to stop, in seconds since 1970: before the limit, or before SLURM ends the job, whichever is sooner.

    Args:
        limit: time limit of this run in seconds; None for no limit.
        slurm_end: when SLURM ends the job, in seconds since 1970; None where it does not.
        now: when the run began.
    """
    ends = [end for end in (None if limit is None else now + limit, slurm_end) if end is not None]
    return min(end - min(LEAD, (end - now) / 20) for end in ends) if ends else None


def job_end(environment: Mapping[str, str]) -> float | None:
    """Return when SLURM ends the job of this environment, in seconds since 1970; None where that is unknown.

    Where the environment does not say so, squeue is asked once.
    """
    if environment.get(JOB_END, "").isdecimal():
        return float(environment[JOB_END])
    job = environment.get("SLURM_ARRAY_JOB_ID", ""), environment.get("SLURM_ARRAY_TASK_ID", "")
    number = "_".join(job) if all(job) else environment.get("SLURM_JOB_ID", "")
    if not number.replace("_", "").isdecimal():
        return None
    command = ["squeue", "--noheader", f"--jobs={number}", "--format=%e"]
    local = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=local)
        return datetime.strptime(found.stdout.strip(), "%Y-%m-%dT%H:%M:%S").timestamp()
    except (OSError, subprocess.SubprocessError, ValueError):  # no squeue, no answer from it, or N/A
        return None
