"""A bar on a terminal, a line now and then in a file."""

import io
import sys

import pytest

from landscape_mpi.log import console
from landscape_mpi.sweeping.progress import Progress, clock_time


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def shown(monkeypatch):
    """Puts a stream in place of standard error, counts points up to a number, and returns what was written."""

    def count(stream, first, last, seconds, *, progress=True):
        monkeypatch.setattr(sys, "stderr", stream)
        clock = Clock()
        with console(progress=progress):
            counted = Progress(last, first, clock)
            for seconds_taken in seconds:
                clock.now += seconds_taken
                counted.step()
        return stream.getvalue()

    return count


def test_a_file_gets_few_lines_and_the_last_one(shown):
    lines = shown(io.StringIO(), 0, 600, [1.0] * 600).splitlines()
    assert len(lines) == 11
    assert lines[0] == "6 of 600 points (1%), 1 points/s, 9:54 left"
    assert lines[-1] == "600 of 600 points (100%), 1 points/s, 0:00 left"


def test_a_terminal_gets_a_bar_on_one_line(shown):
    text = shown(Terminal(), 0, 4, [1.0] * 4)
    assert text.startswith("\r[")
    assert text.count("\n") == 1
    assert "[##############################] 4 of 4" in text


def test_points_of_an_earlier_run_count_as_done_but_not_in_the_rate(shown):
    assert shown(io.StringIO(), 8, 10, [10.0]) == "9 of 10 points (90%), 0.1 points/s, 0:10 left\n"


def test_quiet_is_quiet(shown):
    assert not shown(io.StringIO(), 0, 1, [1.0], progress=False)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text
