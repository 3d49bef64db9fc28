"""Files that kill or stall the HDF5 library do so in a process of its own."""

import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from fates import (
    data_limit,
    disk_full,
    double,
    endless,
    ends_its_server,
    gone,
    interrupts_its_reader,
    killed,
    refuses,
    seen_before,
    shot,
    silent,
    size_of,
    starved,
    too_large,
    who,
)

from landscape_mpi.errors import UserError
from landscape_mpi.files import isolated as module
from landscape_mpi.files.isolated import ForkServer, isolated
from landscape_mpi.surface.read import read_surface
from plot.made_surfaces import write
from support.jobs import tiny_job
from support.launch import launch
from support.waiting import wait_for

NO_FORK = """
import os
from landscape_mpi.files import isolated

def fork():
    raise BlockingIOError(11, "Resource temporarily unavailable")

os.fork = fork
isolated.serve()
"""
FORKED = module._forked
DAMAGED = Path(__file__).parent / "damaged"
"""`crash.h5` and `endless.h5`: what fuzzing found for HDF5 1.10.8; a library without these defects refuses them."""


@pytest.fixture
def surface(tmp_path):
    alpha = np.linspace(-1, 1, 5)
    return write(tmp_path / "s.h5", alpha, None, {"train_loss": alpha**2})


@pytest.mark.parametrize("name", ["crash.h5", pytest.param("endless.h5", marks=pytest.mark.slow)])
def test_a_file_that_the_library_does_not_survive_is_refused(monkeypatch, name):
    monkeypatch.setattr(module, "SECONDS", 1)
    with pytest.raises(UserError, match=rf"{name}: .*the file is damaged"):
        read_surface(DAMAGED / name)


@pytest.mark.parametrize("command", ["info", "merge", "sweep"])
def test_commands_say_so_in_a_sentence(tmp_path, command):
    shutil.copy(DAMAGED / "crash.h5", tmp_path / "crash.h5")
    job = tiny_job(tmp_path, plane={"kind": "file", "path": "crash.h5"}, output__file="crash.h5")
    arguments = {"info": ["crash.h5"], "merge": ["whole.h5", "crash.h5"], "sweep": [job]}[command]
    run = launch(command, *arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert "crash.h5" in run.stderr
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "whole.h5").exists()


@pytest.mark.mpi
def test_ranks_do_not_die_of_it(tmp_path):
    shutil.copy(DAMAGED / "crash.h5", tmp_path / "crash.h5")
    run = launch("sweep", tiny_job(tmp_path, output__file="crash.h5"), ranks=2, fresh=True)
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert "crash.h5: the file is damaged" in run.stderr


@pytest.fixture(autouse=True)
def as_users_read(monkeypatch):
    """Where MPI has not been started, by a fork of this process."""
    monkeypatch.setattr(module, "_forked", FORKED)


@pytest.fixture
def served(monkeypatch):
    """The way of a process that has started MPI: by the server."""
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", sys)
    monkeypatch.setattr(os, "fork", None)


@pytest.fixture(params=["forked", "served"])
def way(request, monkeypatch):
    """Both ways to have a process: a fork of this one, and of a server once MPI has been started here."""
    if request.param == "served":
        request.getfixturevalue("served")
    else:
        monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)


@pytest.mark.slow
def test_what_was_read_comes_back(way):
    values = np.arange(1e6)
    np.testing.assert_array_equal(isolated([], double, values), 2 * values)


def test_a_surface_comes_back_whole(way, surface):
    found = read_surface(surface)
    assert found.complete
    assert found.path == surface
    np.testing.assert_array_equal(found.metrics["train_loss"], found.alpha**2)


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        (killed, r"the file is damaged: reading it crashed HDF5 \(SIGSEGV\); expected a sound file"),
        pytest.param(
            endless,
            r"reading it found no end within \d+ s of processor time; the file is damaged, or this machine very",
            marks=pytest.mark.slow,
        ),
        (shot, r"the process that read it was ended from outside \(SIGKILL\), .*; the file may be sound"),
        (gone, r"the process that read it was ended from outside \(exit code 3\), .*; the file may be sound"),
        (silent, r"the process that read it was ended from outside \(exit code 0\), .*; the file may be sound"),
        (too_large, r"there is not enough memory to read it; the file may be sound"),
        (starved, r"there is not enough memory to read it; the file may be sound"),
    ],
)
def test_how_it_ended_is_said(way, surface, fate, words):
    with pytest.raises(UserError, match=rf"s.h5: {words}"):
        isolated([surface], fate)


def test_a_lower_limit_that_may_not_be_raised_is_kept_and_said(monkeypatch, surface):
    monkeypatch.setattr("resource.getrlimit", lambda _: (4, 4))
    assert module._cpu_limits(20) == (3, 4)
    words = str(module._ending("s.h5", -signal.SIGXCPU, 20))
    assert (
        words == "s.h5: reading it took all of the 3 s that ulimit -t allows; the file may be sound: raise that limit."
    )
    monkeypatch.setattr("resource.getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert module._cpu_limits(20) == (20, 21)


def test_a_process_that_cannot_be_had_speaks_for_no_damage(monkeypatch, surface):
    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    with pytest.raises(UserError, match=r"\(Resource temporarily unavailable\); the file may be sound"):
        read_surface(surface)


def test_exceptions_come_back_as_they_are(way):
    with pytest.raises(UserError, match=r"^what was wrong\.$"):
        isolated([], refuses, "what was wrong")
    with pytest.raises(OSError, match="No space left") as caught:
        isolated([], disk_full)
    assert caught.value.errno == 28


def test_this_process_itself_opens_no_file_of_others(monkeypatch, surface):
    """What the library leaves in memory after a damaged file must not meet the next one."""
    monkeypatch.setattr("h5py.File", killed)
    monkeypatch.setattr(module, "_forked", lambda *_: (0, b""))
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    with pytest.raises(UserError, match="exit code 0"):
        read_surface(surface)


@pytest.mark.slow
def test_no_process_and_no_pipe_is_left(way, surface):
    def held():
        return len([*Path("/proc/self/fd").iterdir()]), Path(f"/proc/self/task/{os.getpid()}/children").read_text()

    read_surface(surface)
    before = held()
    for _ in range(5):
        read_surface(surface)
    assert held() == before


def test_every_file_has_a_process_that_has_read_nothing_before(way):
    for value in range(3):
        assert isolated([], seen_before, value) == []


@pytest.mark.slow
def test_one_server_is_kept_and_another_follows_when_it_dies(served, surface):
    (first, server, owner), (second, same, _) = isolated([], who), isolated([], who)
    assert owner == os.getpid()
    assert server == same
    assert len({first, second, server, owner}) == 4
    for fate in (killed, shot, gone, too_large):
        with pytest.raises(UserError):
            isolated([surface], fate)
        assert isolated([], who)[1] == server
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: ForkServer.kept._process.poll() is not None)
    assert isolated([], who)[1] != server


def test_a_server_that_dies_while_it_is_asked_speaks_for_no_damage(served, surface):
    """As where the kernel looks for memory; a fork of the server ends it here."""
    with pytest.raises(
        UserError, match=r"s.h5: the process that read it was ended from outside \(SIGKILL\), .*be sound"
    ):
        isolated([surface], ends_its_server)
    assert isolated([], double, 2) == 4


def test_a_server_that_cannot_be_had_speaks_for_no_damage(served, monkeypatch, surface):
    monkeypatch.setattr(ForkServer, "kept", None)
    monkeypatch.setattr(module, "PROGRAM", "raise SystemExit(5)")
    with pytest.raises(UserError, match=r"the process that read it was ended from outside \(exit code 5\), .*be sound"):
        read_surface(surface)


@pytest.mark.slow
def test_a_server_that_may_not_fork_speaks_for_no_damage(served, monkeypatch, surface):
    monkeypatch.setattr(ForkServer, "kept", None)
    monkeypatch.setattr(module, "PROGRAM", NO_FORK)
    with pytest.raises(UserError, match=r"\(Resource temporarily unavailable\); the file may be sound"):
        read_surface(surface)


def test_a_name_is_looked_up_where_this_process_is_now(way, surface, monkeypatch, tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / surface.name).write_bytes(b"12345")
    for folder, size in ((tmp_path, surface.stat().st_size), (tmp_path / "below", 5)):
        monkeypatch.chdir(folder)
        assert isolated([], size_of, Path(surface.name)) == size


def test_limits_are_those_of_this_process_now(way):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        for limit in (1 << 38, 1 << 37):
            resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
            assert isolated([], data_limit) == (limit, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_after_an_interruption_nobody_gets_the_answer_of_another(served):
    with pytest.raises(KeyboardInterrupt):
        isolated([], interrupts_its_reader, 0)
    assert isolated([], double, 21) == 42


RANK = """
import sys
from mpi4py import MPI
sys.path.insert(0, sys.argv[1])
from fates import killed, who
from landscape_mpi.errors import UserError
from landscape_mpi.files.isolated import isolated

(first, server, owner), (second, same, _) = isolated([], who), isolated([], who)
try:
    isolated([], killed)
except UserError as error:
    assert "SIGSEGV" in str(error)
assert server == same == isolated([], who)[1] and first != second
servers = MPI.COMM_WORLD.gather(server)
if servers:
    print(*servers, flush=True)
"""


@pytest.mark.mpi
def test_ranks_keep_a_server_each_that_is_no_rank_and_ends_with_them():
    run = launch(Path(__file__).parent, program=(sys.executable, "-c", RANK), ranks=2)
    assert (run.returncode, run.stderr) == (0, "")
    servers = [Path(f"/proc/{server}") for server in run.stdout.split()]
    assert len(servers) == 2
    wait_for(lambda: not any(server.exists() for server in servers))
    assert not any(server.exists() for server in servers)


OWNER = """
import sys
sys.modules["mpi4py.MPI"] = sys
sys.path.insert(0, sys.argv[1])
import os, signal
from fates import who
from landscape_mpi.files.isolated import ForkServer, isolated

_, server, _ = isolated([], who)
if not (child := os.fork()):
    sys.exit(isolated([], who)[1] == server)
assert os.waitpid(child, 0)[1] == 0 and isolated([], who)[1] == server
print(server, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "returns"])
def test_a_server_is_of_one_process_and_ends_with_it(end):
    """A fork has another one, and takes this one with it neither when it asks nor when it ends."""
    run = launch(Path(__file__).parent, end, program=(sys.executable, "-c", OWNER))
    assert (run.returncode, run.stderr) == (-signal.SIGKILL if end == "killed" else 0, "")
    server = Path(f"/proc/{int(run.stdout)}")
    wait_for(lambda: not server.exists())
    assert not server.exists()
