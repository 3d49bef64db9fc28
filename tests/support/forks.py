"""Runs commands in forks of one process that has imported what they need: real processes that start in no time.

    forks.py SOCKET                          the server, until its standard input ends
    forks.py SOCKET MODULE ARGUMENT...       runs `python -m MODULE ARGUMENT...` as itself: folder, streams, variables
    mpirun ... forks.py SOCKET rank MODULE ARGUMENT...   the same as a rank, of a server made by `world`

From Python: `ask`. A command is run from its first line on; only its imports are found done. MPI is not imported: it
starts as it is imported, and every command starts its own. Ranks are children of one process that ends when mpirun
does, so they see of their launcher what they would see of mpirun. At the end of a command all is done that its end is
to do (threads, exit functions, streams, the end of MPI), but its objects are not taken apart one by one: that is three
quarters of the time that a short command takes. A new interpreter (`fresh=True`) ends in full.

What reads the surfaces of a command that has started MPI is a new interpreter (`files/isolated.py`), which takes longer
to start than the command to run. Here it is a fork of a small process that has imported the readers and nothing else.
"""

import atexit
import contextlib
import gc
import importlib
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

END = "\0"
NUMBER = struct.Struct("=i")
"""How the server answers: the process id at once, the status that waitpid gives at the end."""
MARK = "LANDSCAPE_TEST_RUN"
"""The variable that marks a run; forks, of whose variables others see few, have the first letters as a name."""
NAME = 15
SEEN = (MARK, "OMPI_COMM_WORLD_")
"""What /proc is to show of a fork's variables: how many bytes there are is said by those of its server."""
READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "HOME", "XDG_", "MALLOC", "MPL", "HDF5_", "MPI4PY_"),
    *("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH", "PYTORCH", "CUDA", "NVIDIA_"),
)
"""Variables that a library may have read as it was imported begin so: a command for which one differs starts afresh."""
SET_BY_IMPORTS = {"TORCHINDUCTOR_CACHE_DIR", "KMP_DUPLICATE_LIB_OK"}
"""Set by torch's compiler and by threadpoolctl as they are imported: a server has done that itself."""
PATH = "PYTHONPATH"
SITE = ("sitecustomize.py", "usercustomize.py")
PR_SET_NAME = 15
READERS = ".readers"
"""The end of the name of the socket of the small process whose forks read surfaces."""


def fits(own: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a server started with the variables `own` may run a command that is to have the variables `wanted`."""
    for name in (own.keys() | wanted.keys()) - SET_BY_IMPORTS:
        if name != PATH and name.startswith(READ_AT_START) and own.get(name) != wanted.get(name):
            return False
    return not any(Path(folder, name).exists() for folder in _folders(wanted) for name in SITE)


def ask(
    place: str, line: Sequence[str], folder: Path, env: Mapping[str, str], streams: Sequence[int], launcher: int = 0
) -> socket.socket:
    """Have a command run, and return the connection on which `NUMBER`s are answered; closing it kills the command.

    Args:
        place: the server's socket.
        line: the module and its arguments.
        folder: the folder to run in.
        env: all variables.
        streams: the files of standard input, output and error.
        launcher: of a rank, the process id of its mpirun.
    """
    variables = [f"{name}={value}" for name, value in env.items()]
    return _send(place, ["run", str(launcher), str(folder), str(len(line)), *line, *variables], streams)


def world(place: str, of_ranks: str) -> socket.socket:
    """Have a server for the ranks of one mpirun made at another place; answered as `ask` is."""
    return _send(place, ["world", of_ranks], (0, 1, 2))


def hear(connection: socket.socket) -> int | None:
    """Return the next number that the server answers; None where it has ended."""
    found = connection.recv(NUMBER.size, socket.MSG_WAITALL)
    return NUMBER.unpack(found)[0] if len(found) == NUMBER.size else None


def client(place: str, *line: str) -> int:
    """Run a command, pass on what signals this process gets, and end as it does."""
    launcher = os.getppid() if line[0] == "rank" else 0
    with ask(place, line[1:] if launcher else line, Path.cwd(), os.environ, (0, 1, 2), launcher) as connection:
        pid = hear(connection)

        def pass_on(number: int, _: object) -> None:
            if pid:
                with contextlib.suppress(ProcessLookupError):  # it has ended, as a rank that mpirun then tells to end
                    os.kill(pid, number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, pass_on)
        status = hear(connection) if pid else None
    if status is None:
        return 1
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


class Reader:
    """What a command has of the process that reads for it, as of the `Popen` of a new interpreter; it ends with it."""

    def __init__(self, place: str, stdin: int, env: Mapping[str, str]) -> None:
        self._code: int | None = None
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a device
            self._connection = ask(place, [READERS], Path("/"), env, (stdin, nothing.fileno(), 2))
        if hear(self._connection) is None:
            raise ChildProcessError("the server of readers has ended")

    def poll(self) -> int | None:
        """The exit code, or minus the signal's number; None while it runs."""
        return self._ended(0)

    def wait(self) -> int:
        """The same once it has ended."""
        self._ended(None)
        return self._code or 0

    def kill(self) -> None:
        """Kill it."""
        self._connection.shutdown(socket.SHUT_WR)

    def _ended(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._connection], [], [], timeout)[0]:
            status = hear(self._connection)
            self._code = -signal.SIGKILL if status is None else os.waitstatus_to_exitcode(status)
        return self._code


class Server:
    """Forks for every client until standard input, or the launcher of its ranks, ends."""

    def __init__(self, place: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(place)
        self._socket.listen(64)
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self._launcher: int | None = None

    def serve(self) -> None:
        """Serve; return in a fork, as the command that is to be run."""
        while True:
            launcher = [] if self._launcher is None else [self._launcher]
            connections = {connection: pid for pid, connection in self._running.values()}
            ready = select.select([self._socket, 0, *launcher, *self._running, *connections], [], [])[0]
            if 0 in ready or self._launcher in ready:
                os._exit(0)
            for pid in (connections[each] for each in ready if each in connections):  # the client has ended
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for watch in self._running.keys() & set(ready):
                self._reap(watch)
            if self._socket in ready and not self._accepted():
                return

    def close(self) -> None:
        """Serve nobody."""
        self._socket.close()

    def _reap(self, watch: int) -> None:
        pid, connection = self._running.pop(watch)
        os.close(watch)
        _answer(connection, os.waitpid(pid, 0)[1])
        connection.close()

    def _accepted(self) -> bool:
        """Fork for the next client: True in a server, False in a command."""
        connection, _ = self._socket.accept()
        head, streams, _, _ = socket.recv_fds(connection, 10, 3)
        what, first, *request = os.fsdecode(connection.recv(int(head), socket.MSG_WAITALL)).split(END)
        made = Server(first) if what == "world" else None
        if first.isdecimal() and int(first) and self._launcher is None:
            self._launcher = os.pidfd_open(int(first))
        pid = os.fork()
        if pid == 0:
            self._leave(connection)
            os.setpgid(0, 0) if self._launcher else os.setsid()
            if made is None:
                _become(request, streams)
                return False
            self.__dict__.update(made.__dict__)
            return True
        if made:
            made.close()
        self._running[os.pidfd_open(pid)] = pid, connection
        for stream in streams:
            os.close(stream)
        _answer(connection, pid)
        return True

    def _leave(self, connection: socket.socket) -> None:
        """Close in a fork what is the server's."""
        for own in (self._socket, connection, *(other for _, other in self._running.values())):
            own.close()
        for watch in self._running:
            os.close(watch)


def read_for_commands(own: Server) -> NoReturn:
    """Serve from a small process: what is asked for is one that reads surfaces."""
    import landscape_mpi.surface
    from landscape_mpi.files import isolated

    for module in pkgutil.walk_packages(landscape_mpi.surface.__path__, f"{landscape_mpi.surface.__name__}."):
        importlib.import_module(module.name)
    gc.freeze()
    own.serve()
    isolated.serve()
    os._exit(0)


def readers_are_forks(place: str) -> None:
    """From here on a command that has started MPI is given a fork of that process, unless it has limits of its own."""
    from landscape_mpi.files import isolated

    limits = isolated._limits()

    def started(line: Sequence[str], *, stdin: int, stdout: int, env: Mapping[str, str]) -> object:
        if isolated._limits() != limits:
            return subprocess.Popen(line, stdin=stdin, stdout=stdout, env=env)
        return Reader(place, stdin, env)

    isolated.subprocess = types.SimpleNamespace(Popen=started, DEVNULL=subprocess.DEVNULL)


def import_everything() -> None:
    """Import all but MPI, and keep what that brings out of every fork's collections of garbage."""
    import contourpy  # noqa: F401 - slow, as those that follow
    import h5py._hl.dims  # noqa: F401
    import matplotlib.backends.backend_agg
    import matplotlib.pyplot  # noqa: F401
    import PIL.Image
    import torch._dynamo  # by the first optimiser of a process
    import torch.utils.serialization.config  # noqa: F401

    import landscape_mpi

    for module in pkgutil.walk_packages(landscape_mpi.__path__, f"{landscape_mpi.__name__}."):
        if not module.name.endswith(".__main__"):
            with contextlib.suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    PIL.Image.preinit()
    for each in weakref.finalize._registry:  # type: ignore[attr-defined]
        each.atexit = False  # torch's take a third of the time of a short command at its end
    gc.freeze()
    if "mpi4py.MPI" in sys.modules:
        raise RuntimeError("MPI has been started, and a fork cannot use it")
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise RuntimeError("a library has started threads, and a fork has none of them")


def _send(place: str, words: Sequence[str], streams: Sequence[int]) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(place)
    text = os.fsencode(END.join(words))
    socket.send_fds(connection, [b"%10d" % len(text)], list(streams))
    connection.sendall(text)
    return connection


def _become(request: Sequence[str], streams: Sequence[int]) -> None:
    """Be the process that a client asks for: its folder, variables, streams, arguments and import path."""
    import ctypes

    folder, number, *rest = request
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variable.split("=", 1) for variable in rest[int(number) :])
    ctypes.CDLL(None).prctl(PR_SET_NAME, os.environ.get(MARK, "")[:NAME].encode(), 0, 0, 0)
    _show({name: value for name, value in os.environ.items() if name.startswith(SEEN)})
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
        os.close(stream)
    tempfile.tempdir = None
    sys.argv = rest[: int(number)]
    sys.path[:0] = [str(Path.cwd()), *_folders(os.environ)]


def _show(variables: Mapping[str, str]) -> None:
    """Have /proc show variables of this process, at the place of those that its interpreter was started with."""
    import ctypes

    *_, start, end, _ = map(int, Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[1:])
    text = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in variables.items())
    if len(text) <= end - start:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, len(text))


def _run(module: str) -> NoReturn:
    """Run a module as `python -m` does, and end with its exit code."""
    code: object = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            raise
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # Python has an exit code of its own for that
        sys.exit(code)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
    os._exit(int(code or 0) & 0xFF)


def _folders(env: Mapping[str, str]) -> list[str]:
    return [folder for folder in env.get(PATH, "").split(os.pathsep) if folder]


def _answer(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # the client has ended
        connection.sendall(NUMBER.pack(number))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(client(*sys.argv[1:]))
    server, readers = Server(sys.argv[1]), Server(sys.argv[1] + READERS)
    os.write(1, b"ready\n")
    if not os.fork():
        server.close()
        read_for_commands(readers)
    readers.close()
    import_everything()
    readers_are_forks(sys.argv[1] + READERS)
    sys.path[:] = [folder for folder in sys.path[1:] if folder not in _folders(os.environ)]
    server.serve()
    _run(sys.argv[0])
