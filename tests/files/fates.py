"""What can become of a process that reads for another; light, because a new program imports it."""

import os
import resource
import signal
from pathlib import Path

from landscape_mpi.errors import UserError


def killed(*_):
    os.kill(os.getpid(), signal.SIGSEGV)


def shot(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def starved(*_):
    raise MemoryError("Unable to allocate 3 TiB")


class Large:
    """What is too large to be handed back."""

    def __reduce__(self):
        raise MemoryError


def too_large(*_):
    return Large()


def endless(*_):
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


def gone(*_):
    os._exit(3)


def silent(*_):
    os._exit(0)


def refuses(text):
    raise UserError("", text)


def disk_full(*_):
    raise OSError(28, "No space left on device")


def double(values):
    return 2 * values


SEEN: list[object] = []


def seen_before(value):
    """Return what this process has been given before."""
    before = list(SEEN)
    SEEN.append(value)
    return before


def who(*_):
    """Return this process, the one above it, and the one above that."""
    above = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]
    return os.getpid(), os.getppid(), int(above)


def size_of(path):
    return path.stat().st_size


def data_limit(*_):
    return resource.getrlimit(resource.RLIMIT_DATA)


def interrupts_its_reader(_):
    """Do as Ctrl-C does to the process that waits for this answer."""
    _, _, owner = who()
    os.kill(owner, signal.SIGINT)
    return "late"


def ends_its_server(*_):
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()
