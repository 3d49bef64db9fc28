"""`watch`: the page of surfaces that grow, to whom it is served, and how it ends."""

import re
import signal
import socket
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from landscape_mpi.errors import UserError
from landscape_mpi.mpi.world import Solo
from landscape_mpi.plot.watch import Watched, response
from landscape_mpi.sweeping.context import Options
from landscape_mpi.sweeping.run import sweep
from plot.browsing import PATIENCE, running
from plot.conftest import ALPHA, BETA
from plot.made_surfaces import bowl, coarse, write
from support.jobs import results, tiny_job
from support.launch import kill_session, launch, start
from support.waiting import wait_for

LOSS = bowl(ALPHA, BETA)
HALF = coarse(LOSS.shape, 2)
GET = "GET / HTTP/1.1\r\nHost: 127.0.0.1:1234\r\n\r\n"


def half(path):
    """A surface of which every second row and column is done."""
    return write(path, ALPHA, BETA, {"train_loss": np.where(HALF == 1, LOSS, np.nan)}, status=HALF)


def whole(path):
    return write(path, ALPHA, BETA, {"train_loss": LOSS, "train_acc": 100 / (1 + LOSS)})


def asked(watched, request=GET):
    """Status, fields and body of the answer to a request."""
    head, _, body = response(request.encode("latin-1"), watched).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body.decode()


def test_the_page_changes_with_the_file_and_with_nothing_else(tmp_path):
    path = half(tmp_path / "s.h5")
    watched = Watched([path])
    code, fields, page = asked(watched)
    assert (code, fields["Content-Length"]) == (200, str(len(page.encode())))
    assert f"{int(HALF.sum())} of {HALF.size} done" in page
    assert "connect-src 'self'" in page
    assert asked(watched) == (code, fields, page)
    whole(path)
    _, later, page = asked(watched)
    assert later["ETag"] != fields["ETag"]
    assert f"{HALF.size} of {HALF.size} done" in page
    head = asked(watched, GET.replace("GET", "HEAD", 1))
    assert head == (200, later, "")


def test_what_cannot_be_drawn_yet_is_said_until_it_can(tmp_path):
    path = tmp_path / "<b>s.h5"
    watched = Watched([path])
    for make, words in (
        (lambda: None, "found no such file"),
        (lambda: path.write_bytes(b"\x89HDF\r\n\x1a\n" * 100), "."),
        (lambda: write(path, ALPHA, BETA, {"train_loss": LOSS * np.nan}, status=HALF * 0), "no point is done yet"),
        (path.unlink, "found no such file"),
    ):
        make()
        code, _, page = asked(watched)
        assert code == 200
        assert words in page, page[:2000]
        assert "&lt;b&gt;s.h5" in page
        assert "<b>" not in page
        assert 'http-equiv="refresh"' in page
    whole(path)
    assert "Where the surfaces come from" in asked(watched)[2]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: evil.example:1234\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", 403),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /s.h5 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /.. HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET //etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("GET /?x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("PUT /s.h5 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET / FTP\r\nHost: localhost\r\n\r\n", 400),
        ("\xff\0\r\n\r\n", 400),
        ("\r\n\r\n", 400),
    ],
)
def test_nothing_but_the_page_is_served_and_only_under_names_of_this_machine(tmp_path, request_, code):
    watched = Watched([whole(tmp_path / "s.h5")])
    found, _, body = asked(watched, request_)
    assert found == code
    assert (code == 200) == ("<!doctype html>" in body)


@pytest.mark.slow
def test_shards_of_a_surface_are_shown_as_that_surface(tmp_path):
    job = tiny_job(tmp_path)
    for shard in ("0/2", "1/2", None):
        assert sweep(job, Options(device="cpu", shard=shard), Solo()) == 0
    shards = [tmp_path / f"surface.shard-{number}-of-2.h5" for number in range(2)]
    (surface,) = Watched(shards).surfaces()
    assert surface.filled
    expected = results(tmp_path / "surface.h5")
    for name, values in surface.metrics.items():
        assert values.tobytes() == expected[name].tobytes() if hasattr(expected[name], "tobytes") else expected[name]
    (alone,) = Watched(shards[:1]).surfaces()
    assert 0 < alone.done < surface.done
    other = tiny_job(tmp_path, "other.yaml", plane__seed=9, output__file="other.h5")
    assert sweep(other, Options(device="cpu", shard="1/2"), Solo()) == 0
    with pytest.raises(UserError, match="belongs to another sweep"):
        Watched([shards[0], tmp_path / "other.shard-1-of-2.h5"]).surfaces()


@contextmanager
def served(*paths):
    """The command and the address that it says."""
    process = start("watch", *paths, fresh=True)
    try:
        lines = []
        while not lines or (lines[-1] and "http" not in lines[-1]):
            lines.append(process.stdout.readline())
        address = re.search(r"http://127\.0\.0\.1:\d+/", lines[-1])
        assert address, (lines, process.stderr.read())
        yield process, address[0]
    finally:
        kill_session(process)


@pytest.mark.slow
def test_the_command_serves_on_loopback_alone_until_ctrl_c(tmp_path):
    path = tmp_path / "s.h5"
    with served(path) as (process, address):
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "found no such file" in answer.read().decode()
        half(path)
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "done (incomplete" in answer.read().decode()
        for wrong in (
            urllib.request.Request(f"{address}s.h5"),
            urllib.request.Request(address, headers={"Host": "evil.example"}),
            urllib.request.Request(address, data=b"x"),
        ):
            with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error 40[345]"):
                urllib.request.urlopen(wrong, timeout=60)
        port = int(address.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as stranger, suppress(ConnectionError):
            stranger.sendall(b"GET / HTTP/1.1\r\n" + b"x" * 100_000)
            assert stranger.recv(100) == b""
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = [line.split()[1] for line in table.splitlines() if line.split()[3:4] == ["0A"]]
        assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
        taken = launch("watch", path, "--port", str(port))
        assert taken.returncode == 2
        assert f"--port: {port} cannot be used" in taken.stderr
        assert sorted(tmp_path.iterdir()) == [path]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_a_file_that_is_no_surface_is_the_users_mistake(tmp_path):
    (tmp_path / "s.h5").write_text("no surface")
    for path in (tmp_path / "s.h5", tmp_path / "none" / "s.h5"):
        run = launch("watch", path)
        assert run.returncode == 2
        assert run.stderr.startswith("error: "), run.stderr


@pytest.mark.slow(5)
@pytest.mark.browser
def test_a_page_in_a_browser_loads_what_is_new_and_keeps_what_is_chosen(tmp_path):
    from playwright.sync_api import Error

    path = whole(tmp_path / "s.h5")
    with served(path) as (_, address), running() as chromium:
        page = chromium.new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def holds(expression):
            with suppress(Error):  # while a page is left, or has not run its scripts
                return page.evaluate(expression)

        drawn = "document.querySelectorAll('.js-plotly-plot').length > 1"
        page.goto(address, wait_until="commit", timeout=8 * PATIENCE)
        wait_for(lambda: holds(drawn), patience=240, every=0.2)
        page.evaluate("change({ metric: 'train_acc', low: '1' })")
        with h5py.File(path, "r+") as file:
            file["train_acc"][...] = 50
        wait_for(lambda: holds("SURFACES[0].all.train_acc.every((value) => value === 50)"), patience=240, every=0.2)
        wait_for(lambda: holds(drawn), patience=240, every=0.2)
        found = holds("[SURFACES[0].all.train_acc[0], state.metric, state.low, control.low.value]")
        assert (found, complaints) == ([50, "train_acc", "1", "1"], [])
