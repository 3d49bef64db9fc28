"""HDF5 files of others are read in a process of its own each; knows nothing of what is in them.

About one in a thousand files that were damaged at random makes HDF5's C library crash or never end
(docs/security.md). Here that ends a process which has nothing to lose, and becomes a sentence; what it could read
comes back through a pipe.
"""

import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from landscape_mpi.errors import UserError

SECONDS, RATE = 5, 10_000_000
"""CPU time at most: so long, and a second more for so many bytes of the files."""
PROGRAM = f"from {__name__} import main; main()"
PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of Linux."""

T = TypeVar("T")


def apart(files: Sequence[Path], read: Callable[..., T], *arguments: object) -> T:
    """Return `read(*arguments)`, called in a process of its own.

    Args:
        files: what is read, for the message and the limit of time.
        read: a function of a module.
        arguments: values that can be pickled, as must be what is returned.

    Raises:
        UserError: that process crashed or found no end, or it raised one itself; as with every other exception.
    """
    seconds = SECONDS + sum(file.stat().st_size for file in files if file.exists()) // RATE
    # a process that has started MPI must not be forked: its network card may own some of the pages
    run = _started if "mpi4py.MPI" in sys.modules else _forked
    code, answer = run(seconds, read, arguments)
    if code or not answer:
        names = ", ".join(map(str, files))
        raise UserError(f"{names}: the file is damaged: reading it {_ending(code)}; expected a sound file.")
    value, error = pickle.loads(answer)  # noqa: S301 - from a process of our own
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _forked(seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[int, bytes]:
    """Return how a fork of this process ended, and its answer."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with suppress(BaseException), os.fdopen(writing, "wb") as pipe:
            os.close(reading)
            _answer(pipe, seconds, read, arguments)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer


def _started(seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[int, bytes]:
    """Return how a new program ended, and its answer; it is no rank of ours, and nobody's code is in its path."""
    environment = {**os.environ, "MPI4PY_RC_INITIALIZE": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        input=pickle.dumps((seconds, read, arguments)),
        stdout=subprocess.PIPE,
        env=environment,
        check=False,
    )
    return run.returncode, run.stdout


def main() -> None:
    """Be the new program: read what to do, and answer."""
    _answer(sys.stdout.buffer, *pickle.load(sys.stdin.buffer))  # noqa: S301 - from the process that started this one


def _answer(pipe: IO[bytes], seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    _limit(seconds)
    answer: tuple[object, Exception | None]
    try:
        answer = read(*arguments), None
    except Exception as error:
        answer = None, error
    pickle.dump(answer, pipe, protocol=5)


def _limit(seconds: int) -> None:
    """Die quietly: of too much work, with the parent, or of what the library does."""
    faulthandler.disable()
    for number in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # other systems have no such call
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def _ending(code: int) -> str:
    if code == -signal.SIGXCPU:
        return "found no end"
    return f"crashed HDF5 ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
