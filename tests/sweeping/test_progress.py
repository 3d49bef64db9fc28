"""A bar on a terminal, a line now and then in a file."""

import io

import pytest

from landscape_mpi.sweeping.progress import Progress, clock_time


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def run(stream, points, seconds):
    clock = Clock()
    progress = Progress(points, 0, stream, clock)
    for _ in range(points):
        clock.now += seconds
        progress.step()
    return stream.getvalue()


def test_a_file_gets_few_lines_and_the_last_one():
    lines = run(io.StringIO(), 600, 1.0).splitlines()
    assert len(lines) == 11
    assert lines[0] == "6 of 600 points (1%), 1 points/s, 9:54 left"
    assert lines[-1] == "600 of 600 points (100%), 1 points/s, 0:00 left"


def test_a_terminal_gets_a_bar_on_one_line():
    text = run(Terminal(), 4, 1.0)
    assert text.count("\n") == 1
    assert "[##############################] 4 of 4" in text


def test_points_of_an_earlier_run_count_as_done_but_not_in_the_rate():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(10, 8, stream, clock)
    clock.now = 10.0
    progress.step()
    assert stream.getvalue() == "9 of 10 points (90%), 0.1 points/s, 0:10 left\n"


def test_quiet_is_quiet():
    Progress(1, 0, None).step()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text
