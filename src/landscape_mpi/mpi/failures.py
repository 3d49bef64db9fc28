"""Watches each rank from its parent process, which reports the death of a rank and ends the job; no MPI.

The process that a launcher starts forks at once. The child is the rank; the parent waits for its end. Nothing that
happens in the rank can prevent this: no lock of Python, no call into MPI or HDF5 that never returns. A rank that has
ended without a call of `leave` has died, even with exit code 0. Then its parent notes the point that it had in hand,
tells the parents of the other ranks of this node, and exits with code 1. The launcher then ends the ranks of other
nodes. The next run reads the note: points at which a rank died come last, and fail after two deaths.
"""

import ctypes
import json
import mmap
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from landscape_mpi.errors import Exit, printable
from landscape_mpi.files.atomic import atomic_write
from landscape_mpi.log import Ranked, note
from landscape_mpi.mpi.shutdown import SIGNALS

LOOK = 0.5
"""Seconds between two looks at the launcher and at the other ranks' parents."""
FAREWELL = 60.0
"""Seconds that a process gets to end once its rank has called `leave`, such as for hooks of a library at exit."""
TELLING = 2.0
"""Seconds within which the other ranks of a node are told."""
TOLD = signal.SIGUSR2
"""The signal that a parent sends to another parent: a rank has died, and that has been printed."""
HEARS = "LANDSCAPE_DEATHS"
"""Names a file to which a line is added for each death, for scripts: exit code 1 has other reasons too."""
LARGEST = 1 << 20
"""Bytes of a note beyond which nothing is added."""
LONGEST = 200
"""The most characters of the sentence made from a line of a note."""
PDEATHSIG, SUBREAPER = 1, 36
"""Options of prctl(2): get a signal when the parent dies, and become the parent of what dead descendants started."""

_HEAD = struct.Struct("=BBI")
_WORKING, _LEFT, _ABORTED = range(3)
_OPEN = 128


class Parent:
    """Memory that a rank shares with its parent process and writes to: a message needs no system call."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        self._state, self._code = _WORKING, 0

    def opened(self) -> None:
        """Tell the parent that the ranks have found each other: from now on each can wait for all others."""
        self._state |= _OPEN
        self._write(b"")

    def hold(self, note: Path, place: str, index: tuple[int, ...]) -> None:
        """Tell the parent which point this rank evaluates from now on, and in which file to note it at its death."""
        self._write(json.dumps({"note": os.fsdecode(note.absolute()), "place": place, "index": index}).encode())

    def release(self) -> None:
        """Tell the parent that this rank evaluates no point."""
        self._write(b"")

    def leave(self, code: int) -> None:
        """Tell the parent that this rank is done, and its exit code, whatever ends the process from here on."""
        self._state, self._code = _LEFT | (self._state & _OPEN), int(code)
        self._write(b"")

    def abort(self, code: int) -> None:
        """Tell the parent to end all ranks with a code; the reason has been printed."""
        self._state, self._code = _ABORTED | (self._state & _OPEN), int(code)
        self._write(b"")

    def _write(self, held: bytes) -> None:
        size = len(held) if len(held) <= len(self._page) - _HEAD.size else 0
        self._page[: _HEAD.size] = _HEAD.pack(self._state, self._code, 0)  # if killed before the end: nothing in hand
        self._page[_HEAD.size : _HEAD.size + size] = held[:size]
        self._page[: _HEAD.size] = _HEAD.pack(self._state, self._code, size)


def fork_rank(rank: int, launched: bool) -> Parent | None:
    """Fork: the child returns and is the rank, this process becomes its parent and never returns.

    Args:
        rank: the number of this process, for the sentence.
        launched: whether a launcher started it, and others beside it.

    Returns:
        None in this process where the system has no means for it; a launcher still sees some of the deaths then.
    """
    if sys.platform != "linux":
        return None
    page = mmap.mmap(-1, 1 << 14)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [*SIGNALS, TOLD, signal.SIGCHLD, signal.SIGALRM])
    _prctl(SUBREAPER, 1)
    parent = os.getpid()
    child = os.fork()
    if child:
        signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
        if launched:
            signal.signal(TOLD, lambda *_: None)  # never called: it tells the other parents that this process listens
        _Watch(child, page, rank, launched).watch()
        os._exit(Exit.INTERNAL)
    _prctl(PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(Exit.INTERNAL)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Parent(page)


class _Watch:
    """The parent process: waits for the end of its rank, and watches the launcher and the other parents."""

    def __init__(self, child: int, page: mmap.mmap, rank: int, launched: bool) -> None:
        self._child, self._page, self._launched, self._rank = child, page, launched, rank
        self._launcher = os.getppid()
        self._passed: set[int] = set()
        self._others: dict[int, int] = {}
        self._gone_at, self._left_at = 0.0, 0.0
        self._looked = False

    def watch(self) -> None:
        """Wait for the rank's end, and end as it did; signals are passed on."""
        while True:
            # not sigtimedwait: if a process was stopped for longer than its timeout, as by Ctrl-Z or `scontrol
            # suspend`, Python's sigtimedwait returns a signal that nobody sent
            found = signal.sigwaitinfo([*SIGNALS, TOLD, signal.SIGCHLD, signal.SIGALRM])
            if found.si_signo == signal.SIGALRM:
                self._look_around()
            elif found.si_signo == signal.SIGCHLD:  # the rank has ended, or a process that it had started
                with suppress(ChildProcessError):
                    while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                        if ended[0] == self._child:
                            self._end(ended[1])
            elif found.si_signo == TOLD and _parent_of(found.si_pid) in (self._launcher, 0):  # 0: it has ended since
                self._end_quietly()
            else:
                self._passed.add(found.si_signo)
                with suppress(ProcessLookupError):
                    os.kill(self._child, found.si_signo)

    def _look_around(self) -> None:
        """End where the launcher or another rank's parent is gone, or where the rank's own end takes too long."""
        if self._launched and os.getppid() != self._launcher:
            self._kill_all()
            os._exit(Exit.INTERNAL)
        state, code, _ = self._head()
        if state & ~_OPEN != _WORKING:
            self._left_at = self._left_at or time.monotonic()
            if time.monotonic() > self._left_at + FAREWELL:
                self._kill_all()
                os._exit(code)
        elif self._launched and state & _OPEN:
            self._look_at_others()

    def _look_at_others(self) -> None:
        if not self._looked:
            self._looked = True
            for pid in self._listeners():
                with suppress(OSError):
                    self._others[os.pidfd_open(pid)] = pid
        poll = select.poll()
        for file in self._others:
            poll.register(file, select.POLLIN)
        if not poll.poll(0):
            return
        self._gone_at = self._gone_at or time.monotonic()
        if time.monotonic() > self._gone_at + 2 * LOOK:  # it may have left properly, and this rank may be about to
            self._die("a rank died: the process above it was killed")

    def _end(self, status: int) -> None:
        """End as the rank did."""
        state, code, size = self._head()
        held = json.loads(self._page[_HEAD.size : _HEAD.size + size] or b"null")
        killed = os.WIFSIGNALED(status)
        if state & ~_OPEN != _WORKING:
            if self._launched and killed and os.WTERMSIG(status) == signal.SIGKILL and code == Exit.COMPLETE:
                self._die(f"rank {self._rank} on {socket.gethostname()} died at its end ({_how(status)})")
            if killed or state & ~_OPEN == _ABORTED:  # others may wait for this rank while MPI ends
                time.sleep(2 * LOOK)  # by then the launcher knows the code, and the other ranks have left
                self._tell()
            os._exit(code)
        if killed and os.WTERMSIG(status) in self._passed:
            _say(f"stopped by {signal.Signals(os.WTERMSIG(status)).name}; run the same command again to go on.")
            os._exit(Exit.RUN_AGAIN)
        who = f"rank {self._rank} on {socket.gethostname()}"
        how = _how(status)
        if held:
            line = {"index": held["index"], "place": held["place"], "who": who, "how": how}
            _add(str(held["note"]), json.dumps(line) + "\n")
        where = f" at {held['place']}" if held else ""
        self._die(f"{who} died{where} ({how})")

    def _die(self, text: str) -> None:
        """Say what happened, unless another parent of this node has begun to, and end all ranks of the node.

        The launcher ends the ranks of other nodes.
        """
        first = True
        if self._launched:
            voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                voice.bind(f"\0landscape_mpi-{os.getuid()}-{self._launcher}")
            except OSError:  # another parent has taken the name
                first = False
        if first:
            _say(f"error: {text}; what is done is kept: run the same command again to go on.")
            if os.environ.get(HEARS):
                _add(os.environ[HEARS], f"{text}\n")
        self._tell()
        self._kill_all()
        os._exit(Exit.INTERNAL)

    def _end_quietly(self) -> None:
        if self._head()[0] & ~_OPEN == _WORKING:
            self._kill_all()
            os._exit(Exit.INTERNAL)
        soon = time.monotonic() - FAREWELL + TELLING
        self._left_at = min(self._left_at or soon, soon)

    def _tell(self) -> None:
        """Tell the other parents of this node, until none is left."""
        deadline = time.monotonic() + TELLING
        while self._launched and time.monotonic() < deadline and (others := self._listeners()):
            for pid in others:
                with suppress(OSError):
                    os.kill(pid, TOLD)
            time.sleep(LOOK / 10)

    def _listeners(self) -> list[int]:
        """Return the processes of this launcher that listen as this one does: the other ranks' parents."""
        return [pid for pid in _children(self._launcher) if pid != os.getpid() and _hears(pid, TOLD)]

    def _kill_all(self) -> None:
        """Kill the rank, and what it or its children have started."""
        deadline = time.monotonic() + TELLING
        while (children := list(_children(os.getpid()))) and time.monotonic() < deadline:
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.005)

    def _head(self) -> tuple[int, int, int]:
        """Return the rank's state, its exit code and how many bytes say what it has in hand.

        A living rank may be writing these bytes: they are read once it has ended.
        """
        state, code, size = _HEAD.unpack(self._page[: _HEAD.size])
        return state, code, size


def _add(path: str, line: str) -> None:
    """Add a line to a file; add nothing where the disk refuses, or where something else than a plain file is there."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        file = os.open(path, flags, 0o666)
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_size < LARGEST:
            os.write(file, line.encode())
            os.fdatasync(file)


def _how(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"it ended itself with exit code {os.WEXITSTATUS(status)}, as os._exit does"
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    want = ", as the system does where memory runs out" if number == signal.SIGKILL else ""
    return f"killed by {name}{want}"


def _say(text: str) -> None:
    """Write a line on standard error by its descriptor: nothing in Python may keep this process waiting."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))


def _children(parent: int) -> Iterator[int]:
    """Return the living children of a process."""
    for place in Path("/proc").glob("[0-9]*"):
        if _parent_of(int(place.name)) == parent:
            yield int(place.name)


def _parent_of(pid: int) -> int:
    """Return the parent of a living process; 0 where there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:2]
    except (OSError, ValueError):
        return 0
    return 0 if state in b"ZX" else int(parent)


def _hears(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def note_of(surface: Path) -> Path:
    """Return the file with a line for each death at a point of a surface."""
    return surface.with_name(f".{surface.name}.deaths")


class Deaths:
    """The deaths of ranks at points of a surface, in runs since the last complete one."""

    def __init__(self, surface: Path) -> None:
        """Read the note of a surface; lines that are not ours are skipped."""
        self._note, text = note_of(surface), ""
        self._lines: defaultdict[tuple[int, ...], list[tuple[str, str]]] = defaultdict(list)
        with suppress(OSError):  # nothing is read where something else than a file of ours lies there
            descriptor = os.open(self._note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as stream:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    text = stream.read(2 * LARGEST).decode(errors="replace")
        for line in text.splitlines():
            with suppress(ValueError, TypeError, KeyError, RecursionError):  # such as from a line that was cut short
                found = json.loads(line)
                death = printable(f"{found['who']} died at {found['place']} ({found['how']})")[:LONGEST]
                self._lines[tuple(int(i) for i in found["index"])].append((line, death))

    def at(self, index: tuple[int, ...]) -> Sequence[str]:
        """Return a sentence for each death at a point."""
        return [text for _, text in self._lines.get(index, ())]

    def log(self, world: Ranked, points: Iterable[tuple[int, ...]]) -> None:
        """Say what happens to the points of a run at which ranks died."""
        counts = [len(self.at(index)) for index in points]
        once, twice = counts.count(1), sum(count > 1 for count in counts)
        parts = [f"{once} come last, one at a time"] if once else []
        parts += [f"{twice} are marked failed after two deaths"] if twice else []
        if parts:
            note(world, f"of the points at which a rank died before, {' and '.join(parts)}.")

    def end(self, failed: Iterable[tuple[int, ...]]) -> None:
        """Keep, at the end of a run, one death of each point that failed because of its deaths; remove all others."""
        kept = [self._lines[index][-1][0] for index in failed if self.at(index)]
        with suppress(OSError):  # a surface is complete even where the disk refuses this
            if kept:
                with atomic_write(self._note) as made:
                    made.write_text("".join(f"{line}\n" for line in kept))
            else:
                self._note.unlink(missing_ok=True)
