"""The process above a rank: every death becomes one sentence and exit code 1, every leave its own code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from landscape_mpi.mpi.failures import LOOK
from support.launch import Run, environment, finish, kill_session
from support.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the parent needs Linux")
START = """
import os, signal, sys, time
from pathlib import Path
from landscape_mpi.mpi.failures import fork_rank
parent = fork_rank(2, launched=False)
note = Path(sys.argv[1])
parent.hold(note, "alpha 1", (3, 4))
"""


def run(tmp_path, script):
    return Run([sys.executable, "-c", START + script, str(tmp_path / "note")], None, environment())


def ended(tmp_path, script):
    return finish(run(tmp_path, script), 60)


@pytest.mark.parametrize(
    ("script", "how"),
    [
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL, as the system does where memory runs out"),
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("os._exit(0)", "it ended itself with exit code 0, as os._exit does"),
        ("sys.exit(0)", "it ended itself with exit code 0, as os._exit does"),
    ],
)
def test_a_death_is_one_sentence_exit_code_1_and_a_line_in_the_note(tmp_path, script, how):
    found = ended(tmp_path, script)
    host = os.uname().nodename
    assert found.returncode == 1
    assert found.stderr == (
        f"error: rank 2 on {host} died at alpha 1 ({how}); what is done is kept: run the same command again to go on.\n"
    )
    (line,) = (tmp_path / "note").read_text().splitlines()
    assert json.loads(line) == {"index": [3, 4], "place": "alpha 1", "who": f"rank 2 on {host}", "how": how}


def test_with_no_point_in_hand_nothing_is_noted(tmp_path):
    assert ended(tmp_path, "parent.release(); os._exit(0)").returncode == 1
    assert not (tmp_path / "note").exists()


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(9)", "os.kill(os.getpid(), 11)"])
def test_a_rank_that_has_taken_its_leave_may_end_as_it_likes(tmp_path, end):
    found = ended(tmp_path, f"parent.leave(3); {end}")
    assert (found.returncode, found.stderr) == (3, "")
    assert not (tmp_path / "note").exists()


def test_a_parent_may_look_around_while_its_rank_takes_a_point(tmp_path):
    """The alarm that makes the parent look is sent after each of many points, with short and long names."""
    script = "for n in range(20_000): parent.hold(note, 'a' * (n % 97), (n,)); os.kill(os.getppid(), signal.SIGALRM)\n"
    found = ended(tmp_path, f"{script}parent.leave(3); os._exit(3)")
    assert (found.returncode, found.stderr) == (3, "")


@pytest.mark.slow
def test_nothing_is_written_through_a_link_or_into_anything_but_a_plain_file(tmp_path):
    (tmp_path / "other").write_text("mine\n")
    (tmp_path / "note").symlink_to("other")
    assert ended(tmp_path, "os._exit(0)").returncode == 1
    (tmp_path / "note").unlink()
    (tmp_path / "note").hardlink_to(tmp_path / "other")
    assert ended(tmp_path, "os._exit(0)").returncode == 1
    assert (tmp_path / "other").read_text() == "mine\n"
    (tmp_path / "note").unlink()
    os.mkfifo(tmp_path / "note")
    assert ended(tmp_path, "os._exit(0)").returncode == 1


def test_what_a_dead_rank_had_started_dies_too(tmp_path):
    process = run(tmp_path, "import subprocess; subprocess.Popen(['sleep', '1000']); os._exit(0)")
    assert process.wait(60) == 1
    wait_for(lambda: process.members() == [], 10)
    assert process.members() == []
    process.communicate()


def test_a_signal_is_passed_on_and_is_no_death(tmp_path):
    for script, code, said in (
        ("signal.signal(15, lambda *_: (parent.leave(75), os._exit(75))); note.touch(); time.sleep(100)", 75, ""),
        ("note.touch(); time.sleep(100)", 75, "stopped by SIGTERM; run the same command again to go on.\n"),
    ):
        process = run(tmp_path, script)
        wait_for((tmp_path / "note").exists)
        process.send_signal(signal.SIGTERM)
        found = finish(process, 60)
        assert (found.returncode, found.stderr) == (code, said)
        assert (tmp_path / "note").read_text() == ""
        (tmp_path / "note").unlink()


@pytest.mark.slow
def test_a_process_that_is_suspended_goes_on(tmp_path):
    """As by Ctrl-Z and fg, or `scontrol suspend` and `resume`."""
    wait = "note.touch()\nwhile note.exists(): time.sleep(0.02)\nparent.leave(3); os._exit(3)"
    process = run(tmp_path, wait)
    wait_for((tmp_path / "note").exists)
    for _ in range(3):
        process.send_signal(signal.SIGSTOP)
        time.sleep(3 * LOOK)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
    (tmp_path / "note").unlink()
    found = finish(process, 60)
    assert (found.returncode, found.stderr) == (3, "")


def test_the_rank_dies_with_its_parent(tmp_path):
    process = run(tmp_path, "note.touch(); time.sleep(1000)")
    wait_for((tmp_path / "note").exists)
    assert len(process.members()) == 2
    process.kill()
    wait_for(lambda: process.members() == [], 10)
    assert process.members() == []
    process.communicate()


LAUNCH = """
import os, subprocess, sys, time
from pathlib import Path
script = '''
import os, sys, time
from pathlib import Path
from landscape_mpi.mpi.failures import fork_rank
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
parent = fork_rank(rank, launched=True)
(folder / f"{rank}.there").touch()
while len(list(folder.glob("?.there"))) < 3:
    time.sleep(0.02)
parent.opened()
while not (folder / "go").exists():
    time.sleep(0.02)
if rank == 1:
    HOW
time.sleep(1000)
'''
folder = Path(sys.argv[1])
ranks = [subprocess.Popen([sys.executable, "-c", script.replace("HOW", sys.argv[2]), str(n), folder]) for n in range(3)]
time.sleep(2)
(folder / "go").touch()
print([rank.wait() for rank in ranks])
"""


def test_a_process_without_a_launcher_listens_to_no_other(tmp_path):
    """Two commands of one shell are no ranks of one world."""
    process = run(tmp_path, "note.touch(); time.sleep(1000)")
    wait_for((tmp_path / "note").exists)
    (caught,) = (
        line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    )
    assert not int(caught.split()[1], 16) >> (signal.SIGUSR2 - 1) & 1
    kill_session(process)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "codes", "said"),
    [
        ("os._exit(0)", "[1, 1, 1]", "died (it ended itself with exit code 0"),
        ("parent.leave(0); os.kill(os.getpid(), 9)", "[1, 1, 1]", "died at its end (killed by SIGKILL"),
        ("os.kill(os.getppid(), 9)", "[1, -9, 1]", "a rank died: the process above it was killed"),
    ],
)
def test_where_the_launcher_does_nothing_the_ranks_of_a_node_end_each_other(tmp_path, how, codes, said):
    """As with `mpirun --enable-recovery`, or srun without --kill-on-bad-exit."""
    found = finish(Run([sys.executable, "-c", LAUNCH, str(tmp_path), how], None, environment()), 60)
    assert found.stdout.strip() == codes
    assert said in found.stderr
    assert found.stderr.count("error: ") == 1


def test_neither_torch_nor_mpi_is_loaded_above_a_rank():
    script = (
        "import sys, landscape_mpi.__main__; print(sorted({'torch', 'mpi4py', 'numpy', 'h5py'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
    assert Path("/proc/self/stat").exists()
