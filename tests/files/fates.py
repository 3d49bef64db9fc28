"""What can become of a process that reads for another; light, because a new program imports it."""

import os
import resource
import signal

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
    raise UserError(text)


def disk_full(*_):
    raise OSError(28, "No space left on device")


def double(values):
    return 2 * values
