"""Reads each untrusted file in a process of its own, so that a crash of the HDF5 library becomes an error message.

About one in a thousand files that were damaged at random makes HDF5's C library crash or never end
(docs/security.md). Here that ends only a process that does nothing else; what it read comes back through a pipe. Other
reasons for its end, such as a lack of memory, have messages of their own.

Every file is read by a process that has read nothing before, because a damaged file may leave the library's memory
damaged.
That process is a fork: of this process or, once MPI has started here, of a server that is kept.
"""

import ctypes
import errno
import faulthandler
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, TypeVar

from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import FILE, found

SECONDS, RATE = 20, 2_000_000
"""Most seconds of CPU time, and bytes of the files for each second more; a sound file takes a hundredth of that."""
CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
"""Signals that end a process in which HDF5 crashes."""
SOUND = "the file may be sound"
PROGRAM = f"from {__name__} import serve; serve()"
PARENT_DEATH = 1
"""PR_SET_PDEATHSIG of Linux."""
SIZE, ENDING = struct.Struct("<Q"), struct.Struct("<ii")
"""`SIZE`: the bytes of a request that follows. `ENDING`: its process's exit code, and the error if none could start."""

_LOCK = Lock()
T = TypeVar("T")
Answer = tuple[int, bytes]
"""How the process that read ended, and what came back."""


def isolated(files: Sequence[Path], read: Callable[..., T], *arguments: object) -> T:
    """Return `read(*arguments)`, called in a process of its own.

    Args:
        files: what is read, for the message and the limit of time.
        read: a function of a module.
        arguments: values that can be pickled; the returned value must be one too.

    Raises:
        UserError: that process crashed, did not end in time, or raised one itself. Every other exception that it raised
            is raised here too.
    """
    names = ", ".join(map(str, files))
    seconds = SECONDS + sum(file.stat().st_size for file in files if found(file) == FILE) // RATE
    # a process that has started MPI must not be forked: its network card may own some of the pages
    run = _served if "mpi4py.MPI" in sys.modules else _forked
    try:
        code, answer = run(seconds, read, arguments)
        value: Any = None
        error: Exception | None = None
        if answer and not code:
            value, error = pickle.loads(answer)  # noqa: S301 - from a process of our own
        elif code != errno.ENOMEM:
            error = _ending(names, code, seconds)
    except (MemoryError, OSError) as refusal:
        what = "not enough memory" if isinstance(refusal, MemoryError) else refusal.strerror
        raise UserError(names, f"cannot be read by a process of its own ({what})", remedy=SOUND) from refusal
    if isinstance(error, MemoryError) or code == errno.ENOMEM:
        raise UserError(names, "there is not enough memory to read it", remedy=f"{SOUND}: raise the limit (ulimit -v)")
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _forked(seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> Answer:
    """Answer by a fork of this process."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with suppress(BaseException):
            os.close(reading)
            _answer(writing, seconds, read, arguments)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), answer


def _served(seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> Answer:
    """Answer by a fork of the server of this process, started for the first request and again where it has died."""
    with _LOCK:
        if ForkServer.kept is None or not ForkServer.kept.usable:
            ForkServer.kept = ForkServer()
        return ForkServer.kept.ask(seconds, read, arguments)


class ForkServer:
    """A process that has started no MPI and opens no file itself: it forks a process for each request.

    It is no rank, and it ends with the process that started it.
    """

    kept: "ClassVar[ForkServer | None]" = None

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: the system refused.
        """
        self._owner, self._limits = os.getpid(), _limits()
        environment = {**os.environ, "MPI4PY_RC_INITIALIZE": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM], stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment
            )
        self._end = weakref.finalize(self, _end, self._owner, self._process, self._socket)

    @property
    def usable(self) -> bool:
        """Whether it lives, is this process's own and has the limits (ulimit) that this process has now."""
        return self._owner == os.getpid() and self._process.poll() is None and self._limits == _limits()

    def ask(self, seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> Answer:
        """Answer by a fork of the server.

        Raises:
            OSError: the system refused.
        """
        folder = None
        with suppress(OSError):  # the working directory is gone
            folder = Path.cwd()
        request = pickle.dumps((folder, seconds, read, arguments))
        reading, writing = os.pipe()
        try:
            with os.fdopen(reading, "rb") as pipe:
                try:
                    socket.send_fds(self._socket, [SIZE.pack(len(request))], [writing])
                finally:
                    os.close(writing)
                self._socket.sendall(request)
                answer = pipe.read()
            ending = _received(self._socket, ENDING.size)
        except ConnectionError:
            ending = b""
        except BaseException:  # the next answer would be that of this request
            self._end()
            raise
        if len(ending) < ENDING.size:  # the server is dead
            return self._process.wait(), b""
        code, refused = ENDING.unpack(ending)
        if refused:
            raise OSError(refused, os.strerror(refused))
        return code, answer


def _end(owner: int, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    """End a server, unless this is a fork of the process that it belongs to."""
    connection.close()
    if owner == os.getpid():
        process.kill()
        process.wait()


def _limits() -> list[tuple[int, int]]:
    """Return what `ulimit` says here: a process keeps the limits that it was started with."""
    return [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]


def _received(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer where the other side has ended."""
    parts = bytearray()
    while len(parts) < size and (part := connection.recv(size - len(parts))):
        parts += part
    return bytes(parts)


def serve() -> None:
    """Run the server: fork a process for each request that comes through standard input, and say how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it for the process that started this one
    _end_with_parent()
    with socket.socket(fileno=sys.stdin.fileno()) as owner:
        while True:
            head, pipes, _, _ = socket.recv_fds(owner, SIZE.size, 1)
            if len(head) < SIZE.size:
                return
            (pipe,) = pipes
            folder, seconds, read, arguments = pickle.loads(_received(owner, *SIZE.unpack(head)))  # noqa: S301
            code = refused = 0
            try:
                if not (child := os.fork()):
                    with suppress(BaseException):
                        owner.close()
                        if folder is not None:
                            os.chdir(folder)
                        _answer(pipe, seconds, read, arguments)
                    os._exit(0)
            except OSError as error:
                refused = error.errno or errno.EAGAIN
            os.close(pipe)
            if not refused:
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            owner.sendall(ENDING.pack(code, refused))


def _answer(pipe: int, seconds: int, read: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    """Write what `read` returns or raises into a pipe, in a process that is for this alone."""
    # end without a message: after too much work, with the parent, or by a crash of the library
    faulthandler.disable()
    for number in (signal.SIGXCPU, *CRASHES):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, _cpu_limits(seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with_parent()
    answer: tuple[object, Exception | None]
    try:
        answer = read(*arguments), None
    except MemoryError:
        answer = None, MemoryError()
    except Exception as error:
        answer = None, error
    with os.fdopen(pipe, "wb") as stream:
        try:
            pickle.dump(answer, stream, protocol=5)
            stream.flush()
        except MemoryError:
            os._exit(errno.ENOMEM)


def _end_with_parent() -> None:
    with suppress(OSError, AttributeError):  # other systems have no such call
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)


def _cpu_limits(seconds: int) -> tuple[int, int]:
    """Return the soft and the hard limit of CPU time: ours, unless a lower one is set that may not be raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = seconds + 1 if hard == resource.RLIM_INFINITY else min(seconds + 1, hard)
    return max(most - 1, 1), most


def _ending(names: str, code: int, seconds: int) -> UserError:
    """Return the error about a process that ended without an answer: only HDF5's crashes mean a damaged file."""
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if code == -signal.SIGXCPU:
        allowed, _ = _cpu_limits(seconds)
        if allowed < seconds:
            found = f"reading it took all of the {allowed} s that ulimit -t allows"
            return UserError(names, found, remedy=f"{SOUND}: raise that limit")
        found = f"reading it found no end within {allowed} s of processor time"
        return UserError(names, f"{found}; the file is damaged, or this machine very slow")
    if code >= 0 or -code not in CRASHES:
        found = f"the process that read it was ended from outside ({name}), as where memory is short"
        return UserError(names, found, remedy=f"{SOUND}: try again")
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        found = f"reading it crashed HDF5 ({name})"
        return UserError(names, f"{found}; memory is limited here (ulimit -v), or the file is damaged")
    return UserError(names, f"the file is damaged: reading it crashed HDF5 ({name})", expected="a sound file")
