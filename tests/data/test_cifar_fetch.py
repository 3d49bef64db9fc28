"""Fetching over a real HTTP server on this machine: checked, safe, whole or not at all."""

import functools
import hashlib
import http.server
import io
import shutil
import socket
import tarfile
import threading
from pathlib import Path

import pytest
from cifar_files import BATCHES, python2_pickle, random_batch

from landscape_mpi.data import fetch_cifar10, load_split
from landscape_mpi.data.cifar import FOLDER, OFFICIAL_MD5, OFFICIAL_URL
from landscape_mpi.errors import UserError

NAMES = [*BATCHES, "test_batch"]


def member(name, content=b"", **header):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in header.items():
        setattr(info, key, value)
    return info, content


def folder_of_batches(names=NAMES):
    """The official members, with two images per batch."""
    yield member(FOLDER, type=tarfile.DIRTYPE, mode=0o755)
    yield member(f"{FOLDER}/batches.meta", b"meta")
    for seed, name in enumerate(names):
        yield member(f"{FOLDER}/{name}", python2_pickle(*random_batch(seed, images=2)))


def archive(*members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one body under any name; it may claim more than it sends."""

    def __init__(self, served, *args):
        self.served = served
        super().__init__(*args)

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        body, claimed = self.served
        self.send_response(200)
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep the output of the tests clean."""


@pytest.fixture
def serve():
    """Start a server for a body, and return its address and the md5 of the body."""
    servers = []

    def start(body, claimed=None):
        handler = functools.partial(Handler, (body, len(body) if claimed is None else claimed))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, args=[0.01], daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/cifar", hashlib.md5(body).hexdigest()

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetch(root, url, md5, lines=None):
    return fetch_cifar10(root, ([] if lines is None else lines).append, url, md5)


def refused(root, url, md5, message):
    """Fetching fails with one sentence, and leaves nothing behind."""
    with pytest.raises(UserError, match=message) as caught:
        fetch(root, url, md5)
    assert "\n" not in str(caught.value)
    assert not root.exists()


def test_the_archive_is_downloaded_checked_and_unpacked(tmp_path, serve):
    root, lines = tmp_path / "some" / "data", []
    url, md5 = serve(archive(*folder_of_batches()))
    assert fetch(root, url, md5, lines) == root / FOLDER
    assert len(load_split("cifar10", root, "train", {}, None)) == 10
    assert len(load_split("cifar10", root, "test", {}, None)) == 2
    assert [path.name for path in root.iterdir()] == [FOLDER]
    assert lines[0].startswith(f"downloading {url}")
    assert lines[-1] == f"{root / FOLDER} is complete: the archive's md5 is {md5}"


def test_what_is_there_is_not_fetched_again(tmp_path, serve):
    fetch(tmp_path, *serve(archive(*folder_of_batches())))
    before = (tmp_path / FOLDER / "data_batch_1").stat()
    lines = []
    assert fetch(tmp_path, "http://127.0.0.1:1/unreachable", "0", lines) == tmp_path / FOLDER
    assert lines == [f"{tmp_path / FOLDER} is already there: nothing to do"]
    assert (tmp_path / FOLDER / "data_batch_1").stat() == before


def test_a_second_process_that_was_sooner_is_no_failure(tmp_path, serve, monkeypatch):
    url, md5 = serve(archive(*folder_of_batches()))
    rename = Path.rename

    def later(made, folder):
        shutil.copytree(made, folder)
        return rename(made, folder)

    monkeypatch.setattr(Path, "rename", later)
    assert fetch(tmp_path, url, md5) == tmp_path / FOLDER
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]


def test_a_partial_folder_is_left_alone(tmp_path, serve):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "data_batch_1").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"lacks data_batch_2, .*, test_batch; move it away"):
        fetch(tmp_path, *serve(archive(*folder_of_batches())))
    assert (tmp_path / FOLDER / "data_batch_1").read_bytes() == b"mine"


def test_another_md5_is_refused(tmp_path, serve):
    url, md5 = serve(archive(*folder_of_batches()))
    refused(tmp_path / "data", url, "0" * 32, f"with md5 {md5}; expected {'0' * 32}")


def test_a_failure_leaves_what_was_there_before(tmp_path, serve):
    (tmp_path / "mine").touch()
    url, _ = serve(archive(*folder_of_batches()))
    with pytest.raises(UserError, match="md5"):
        fetch(tmp_path, url, "0" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


BAD_MEMBERS = {
    "above": member("../evil", b"x"),
    "absolute": member("/tmp/evil-of-a-test", b"x"),
    "inside and out": member(f"{FOLDER}/../evil", b"x"),
    "another name": member(f"{FOLDER}/evil", b"x"),
    "beside": member("data_batch_1", b"x"),
    "symbolic link": member(f"{FOLDER}/readme.html", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member(f"{FOLDER}/readme.html", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": member(f"{FOLDER}/readme.html", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "folder": member(f"{FOLDER}/test_batch", type=tarfile.DIRTYPE),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
@pytest.mark.parametrize("first", [True, False])
def test_an_archive_with_anything_else_in_it_is_refused(tmp_path, serve, name, first):
    bad = BAD_MEMBERS[name]
    members = [bad, *folder_of_batches()] if first else [*folder_of_batches(), bad]
    refused(tmp_path / "data", *serve(archive(*members)), f"has a member '{bad[0].name}' that CIFAR-10 does not have")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_without_a_batch_is_refused(tmp_path, serve):
    members = folder_of_batches([name for name in NAMES if name != "data_batch_3"])
    refused(tmp_path / "data", *serve(archive(*members)), "the archive lacks data_batch_3")


WHOLE = archive(*folder_of_batches())
DAMAGED = WHOLE[:3000] + bytes(byte ^ 255 for byte in WHOLE[3000:4000]) + WHOLE[4000:]


@pytest.mark.parametrize("body", [b"", b"<html>please log in</html>", WHOLE[:2000], DAMAGED])
def test_what_is_no_archive_is_refused(tmp_path, serve, body):
    refused(tmp_path / "data", *serve(body), "the archive (cannot be read|lacks)")


def test_a_transfer_that_breaks_off_is_reported_as_one(tmp_path, serve):
    body = archive(*folder_of_batches())
    url, md5 = serve(body[:1000], claimed=len(body))
    refused(tmp_path / "data", url, md5, f"broke off after 1,000 of {len(body):,} bytes")


def test_a_missing_file_on_the_server_is_named(tmp_path, serve):
    url, md5 = serve(b"")
    refused(
        tmp_path / "data", url.replace("/cifar", "/missing"), md5, r"cannot download http://.*/missing \(Not Found\)"
    )


def test_nobody_listening_is_a_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/cifar"
    refused(tmp_path / "data", url, "0", r"cannot download http://127.* Connection refused.*: go online and try again")


@pytest.mark.parametrize("url", ["https://name.invalid/cifar.tar.gz", "no address at all"])
def test_offline_or_no_address_is_a_sentence(tmp_path, url):
    refused(tmp_path / "data", url, "0", rf"cannot download {url} \(.+\); nothing was kept: go online")


def test_a_root_that_cannot_be_made_is_a_sentence(tmp_path, serve):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*give a --root that can be written"):
        fetch(tmp_path / "file" / "data", *serve(archive(*folder_of_batches())))


@pytest.mark.slow
def test_progress_is_reported_by_tenths(tmp_path, serve):
    body = archive(*folder_of_batches()) + bytes(25 << 20)
    lines = []
    with pytest.raises(UserError):
        fetch(tmp_path, serve(body)[0], "0", lines)
    assert 9 <= len(lines) <= 11
    assert lines[1].endswith(" of 26 MB")


def test_the_official_archive_is_what_is_fetched_by_default():
    assert OFFICIAL_URL == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    assert OFFICIAL_MD5 == "c58f30108f718f92721af3b95e74349a"
