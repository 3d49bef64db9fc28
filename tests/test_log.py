"""Standard output and standard error that are closed, full or left: the work is done; progress on a terminal."""

import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from landscape_mpi import cli, log
from landscape_mpi.errors import UserError
from landscape_mpi.log import Progress, clock_time, console
from landscape_mpi.plot.__main__ import main as plot
from support.jobs import done, tiny_job
from support.launch import COMMAND, environment, launch


@pytest.fixture
def to(monkeypatch):
    """Puts a shielded stream over a descriptor in place of standard output."""
    made = []

    def put(descriptor):
        with open(descriptor, "w", closefd=False) as plain:
            monkeypatch.setattr(sys, "stdout", plain)
            monkeypatch.setattr(sys, "__stdout__", plain)
            monkeypatch.setattr(log, "NUMBERS", {descriptor: "stdout"})
            log.shield()
        made.append(descriptor)

    yield put
    for descriptor in made:
        with suppress(OSError):
            os.close(descriptor)


def test_a_full_device_is_one_sentence_where_the_answer_was_the_point(to):
    to(os.open("/dev/full", os.O_WRONLY))
    log.report("done")
    with pytest.raises(UserError, match=r"standard output: cannot be written \(No space left on device\)"):
        log.answer("the answer")


def test_a_reader_that_has_gone_has_had_enough(to):
    reading, writing = os.pipe()
    to(writing)
    os.close(reading)
    log.answer("the answer")


def test_a_closed_descriptor_leads_nowhere_and_is_not_given_to_the_next_file(to, tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 199)
    os.close(descriptor)
    with open(199, "w", closefd=False):
        os.close(199)
        to_closed = pytest.raises(UserError, match="Bad file descriptor")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", None)
            patch.setattr(sys, "__stdout__", None)
            patch.setattr(log, "NUMBERS", {199: "stdout"})
            log.shield()
            assert os.fstat(199).st_rdev == Path(os.devnull).stat().st_rdev
            with to_closed:
                log.answer("the answer")
    os.close(199)


def test_a_pipe_that_does_not_block_loses_nothing(to):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "x" * 300_000
    child = os.fork()
    if not child:
        with suppress(BaseException):
            os.close(writing)
            with os.fdopen(reading, "rb") as pipe:
                os._exit(0 if pipe.read() == f"{text}\n".encode() else 1)
        os._exit(2)
    os.close(reading)
    to(writing)
    log.answer(text)
    sys.stdout.close()
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.slow
def test_help_and_version_that_nobody_can_read_are_no_success(to):
    for run in (lambda: cli.run(["--help"]), lambda: cli.run(["--version"])):
        to(os.open("/dev/full", os.O_WRONLY))
        with pytest.raises(UserError, match="standard output"):
            run()
    to(os.open("/dev/full", os.O_WRONLY))
    assert plot(["--help"]) == 2


def run(*arguments, program=COMMAND, cwd, out=None, err=None):
    """Run a command with standard output or error full, or closed where they are `closed`."""

    def close():
        for number, what in ((1, out), (2, err)):
            if what == "closed":
                os.close(number)

    with Path("/dev/full").open("w") as full:
        places = [full if what == "full" else subprocess.PIPE for what in (out, err)]
        return subprocess.run(
            [*program, *arguments],
            stdout=places[0],
            stderr=places[1],
            cwd=cwd,
            env=environment(),
            preexec_fn=close,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder with a surface, swept with nowhere to say anything."""
    folder = tmp_path_factory.mktemp("swept")
    job = tiny_job(folder, grid={"alpha": [-1, 1, 3]})
    assert run("sweep", job.name, cwd=folder, err="full", out="full").returncode == 0
    assert done(folder / "surface.h5") == 3
    return folder


@pytest.mark.slow
def test_a_sweep_needs_neither_of_the_two(swept, tmp_path):
    job = tiny_job(tmp_path, grid={"alpha": [-1, 1, 3]})
    assert run("sweep", job.name, cwd=tmp_path, err="closed", out="closed").returncode == 0
    assert done(tmp_path / "surface.h5") == 3


@pytest.mark.slow
@pytest.mark.parametrize("out", ["full", "closed"])
@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["info", "surface.h5"], 2),
        (["export", "surface.h5", "out.csv"], 0),
        (["merge", "merged.h5", "surface.h5"], 0),
    ],
)
def test_what_was_to_be_done_is_done_and_what_was_to_be_said_is_missed(swept, line, code, out):
    for name in ("out.csv", "merged.h5"):
        (swept / name).unlink(missing_ok=True)
    found = run(*line, cwd=swept, out=out)
    assert found.returncode == code
    assert found.stderr.startswith("error: standard output: cannot be written (" if code else "")
    assert "Traceback" not in found.stderr
    assert code or (swept / {"export": "out.csv", "merge": "merged.h5"}[line[0]]).exists()


@pytest.mark.slow
def test_a_figure_is_drawn_where_its_name_cannot_be_said(swept):
    program = [sys.executable, "-m", "landscape_mpi.plot"]
    found = run("surface.h5", "-o", "figure.png", program=program, cwd=swept, out="full")
    assert (found.returncode, found.stderr) == (0, "")
    assert (swept / "figure.png").exists()


INTERRUPTED = """
import os, signal, sys
from landscape_mpi.plot.__main__ import main
class Interrupt:
    def find_spec(self, name, *_):
        if name == 'matplotlib':
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_an_interrupted_drawing_is_one_sentence(swept):
    found = launch("surface.h5", program=[sys.executable, "-c", INTERRUPTED], cwd=swept)
    assert found.returncode == 75
    assert found.stderr == "landscape-plot: interrupted; run the same command again to draw.\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Rank:
    """As much of a world as a line depends on."""

    def __init__(self, rank):
        self.rank = rank


@pytest.fixture
def caught():
    """A handler of the user's own on our logger, and the records it was given."""

    class Caught(logging.Handler):
        def __init__(self):
            super().__init__()
            self.records = []

        def emit(self, record):
            self.records.append((record.name, record.levelname, record.rank, record.getMessage()))

    handler = Caught()
    log.LOGGER.addHandler(handler)
    yield handler.records
    log.LOGGER.removeHandler(handler)


def test_rank_0_alone_says_a_line_unless_it_is_a_ranks_own(caught, capsys):
    with log.console():
        for rank in (1, 0):
            log.log(Rank(rank), f"said by {rank}")
            log.note(Rank(rank), "known to all")
            log.say(f"error: rank {rank} failed", logging.ERROR, rank)
        log.ProgressLine(lambda: 0.0).show(lambda _: "1 of 2", last=True)
    assert caught == [
        ("landscape_mpi", "ERROR", 1, "error: rank 1 failed"),
        ("landscape_mpi", "INFO", 0, "said by 0"),
        ("landscape_mpi", "WARNING", 0, "note: known to all"),
        ("landscape_mpi", "ERROR", 0, "error: rank 0 failed"),
        ("landscape_mpi.progress", "INFO", 0, "1 of 2"),
    ]
    assert capsys.readouterr().err == ""  # who catches the lines has them alone


def test_a_note_is_said_once(capsys):
    with log.console():
        note = log.noter(Rank(0))
        for text in ("one", "two", "one"):
            note(text)
    assert capsys.readouterr().err == "note: one\nnote: two\n"


def test_the_logger_is_left_as_it_was(capsys, caplog):
    with log.console(logging.ERROR, progress=False):
        log.log(Rank(0), "hidden")
        log.say("error: shown", logging.ERROR)
    assert capsys.readouterr().err == "error: shown\n"
    assert not caplog.records  # no handler of the root says it again
    assert (log.LOGGER.level, log.PROGRESS.level, log.LOGGER.propagate) == (logging.NOTSET, logging.NOTSET, True)
    assert not log.LOGGER.handlers


@pytest.mark.parametrize("of_command", [True, False])
def test_code_of_the_users_own_does_not_silence_a_command(capsys, of_command):
    try:
        with log.console(of_command=of_command):
            logging.config.dictConfig({"version": 1})  # disables the loggers that are there
            logging.disable(logging.CRITICAL)
            log.log(Rank(0), "a line")
        assert capsys.readouterr().err == ("a line\n" if of_command else "")
    finally:
        logging.disable(logging.NOTSET)
        log.LOGGER.disabled = log.PROGRESS.disabled = False


def test_a_line_names_files_from_the_working_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with log.console():
        log.log(Rank(0), f"{tmp_path / 's.h5'}: complete.")
    assert capsys.readouterr().err == "s.h5: complete.\n"


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


def test_a_notebook_gets_one_line_that_is_written_over(shown):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    text = shown(stream, 0, 4, [1.0] * 4)
    assert text.startswith("\r[")
    assert (text.count("\n"), text.count("\033")) == (1, 0)
    assert {len(line) for line in text.strip("\r\n").split("\r")} == {100}


def test_points_of_an_earlier_run_count_as_done_but_not_in_the_rate(shown):
    assert shown(io.StringIO(), 8, 10, [10.0]) == "9 of 10 points (90%), 0.1 points/s, 0:10 left\n"


def test_quiet_is_quiet(shown):
    assert not shown(io.StringIO(), 0, 1, [1.0], progress=False)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_clock_time(seconds, text):
    assert clock_time(seconds) == text
