"""Signals as reasons to stop: heard in this process alone, not in those that it forks."""

import os
import signal

import pytest

from landscape_mpi.mpi.signals import SIGNALS, Stop


def in_a_fork(action):
    """The wait status of a forked process that runs an action."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(3)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_forked_process_has_the_handlers_of_before(number):
    def action():
        before = signal.getsignal(number)
        os._exit(0 if before in (signal.SIG_DFL, signal.default_int_handler) else 1)

    stop = Stop()
    with stop.listening():
        assert os.waitstatus_to_exitcode(in_a_fork(action)) == 0
        os.kill(os.getpid(), number)
        assert stop.reason == signal.Signals(number).name


def test_sigterm_ends_a_forked_process_while_we_listen_and_a_handler_set_later_is_left_alone():
    with Stop().listening():
        status = in_a_fork(lambda: (os.kill(os.getpid(), signal.SIGTERM), signal.pause()))
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ignored = in_a_fork(lambda: os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN else 1))
        assert os.waitstatus_to_exitcode(ignored) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
