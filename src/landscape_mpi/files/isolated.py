"""HDF5 files of others are read in a process of its own each; knows nothing of what is in them.

About one in a thousand files that were damaged at random makes HDF5's C library crash or never end
(docs/security.md). Here that ends a process which has nothing to lose, and becomes a sentence; what it could read
comes back through a pipe. What else may end that process, such as a lack of memory, is said as what it is.
"""

import ctypes
import errno
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
from landscape_mpi.files.paths import FILE, found

SECONDS, RATE = 20, 2_000_000
"""CPU time at most: so long, and a second more for so many bytes of the files; a sound one takes a hundredth of it."""
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
"""What HDF5 dies of."""
SOUND = "the file may be sound"
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
    names = ", ".join(map(str, files))
    seconds = SECONDS + sum(file.stat().st_size for file in files if found(file) == FILE) // RATE
    # a process that has started MPI must not be forked: its network card may own some of the pages
    run = _started if "mpi4py.MPI" in sys.modules else _forked
    try:
        code, answer = run(seconds, read, arguments)
        value: Any = None
        error: Exception | None = None
        if answer and not code:
            value, error = pickle.loads(answer)  # noqa: S301 - from a process of our own
        elif code != errno.ENOMEM:
            error = UserError(_ending(names, code, seconds))
    except (MemoryError, OSError) as refusal:
        what = "not enough memory" if isinstance(refusal, MemoryError) else refusal.strerror
        raise UserError(f"{names}: cannot be read by a process of its own ({what}); {SOUND}.") from refusal
    if isinstance(error, MemoryError) or code == errno.ENOMEM:
        raise UserError(f"{names}: there is not enough memory to read it; {SOUND}: raise the limit (ulimit -v).")
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
    except MemoryError:
        answer = None, MemoryError()
    except Exception as error:
        answer = None, error
    try:
        pickle.dump(answer, pipe, protocol=5)
        pipe.flush()
    except MemoryError:
        os._exit(errno.ENOMEM)


def _limit(seconds: int) -> None:
    """Die quietly: of too much work, with the parent, or of what the library does."""
    faulthandler.disable()
    for number in (signal.SIGXCPU, *CRASHES):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, _cpu_limits(seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):  # other systems have no such call
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def _cpu_limits(seconds: int) -> tuple[int, int]:
    """Return the soft and the hard limit of CPU time: ours, unless a lower one is set that may not be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = seconds + 1 if hard == resource.RLIM_INFINITY else min(seconds + 1, hard)
    return max(most - 1, 1), most


def _ending(names: str, code: int, seconds: int) -> str:
    """Return what to say of a process that ended without an answer: only HDF5's crashes speak against the file."""
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if code == -signal.SIGXCPU:
        allowed, _ = _cpu_limits(seconds)
        if allowed < seconds:
            return f"{names}: reading it took all of the {allowed} s that ulimit -t allows; {SOUND}: raise that limit."
        return (
            f"{names}: reading it found no end within {allowed} s of processor time; the file is damaged, or this "
            "machine very slow."
        )
    if code >= 0 or -code not in CRASHES:
        return (
            f"{names}: the process that read it was ended from outside ({name}), as where memory is short; {SOUND}: "
            "try again."
        )
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return f"{names}: reading it crashed HDF5 ({name}); memory is limited here (ulimit -v), or the file is damaged."
    return f"{names}: the file is damaged: reading it crashed HDF5 ({name}); expected a sound file."
