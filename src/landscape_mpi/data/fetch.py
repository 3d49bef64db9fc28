"""Downloads the official archive of CIFAR-10 and unpacks it safely; knows nothing of what the files mean."""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.request import urlopen

from landscape_mpi.data.cifar import BATCH_NAMES
from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import check_folder, is_there

OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
OFFICIAL_MD5 = "c58f30108f718f92721af3b95e74349a"
FOLDER = "cifar-10-batches-py"
BATCHES = frozenset(name for names in BATCH_NAMES.values() for name in names)
EXTRAS = frozenset({"batches.meta", "readme.html"})
TIMEOUT = 30.0
CHUNK = 1 << 20

Report = Callable[[str], None]


def fetch_cifar10(root: Path, report: Report, url: str = OFFICIAL_URL, md5: str = OFFICIAL_MD5) -> Path:
    """Download CIFAR-10 (163 MB) into `root` unless it is there, and return its folder.

    The folder appears whole or not at all: it is made in a temporary folder beside it, which is removed
    whatever happens.

    Args:
        root: The folder that is to hold `cifar-10-batches-py`; made where it is absent.
        report: Gets one line at a time about what is going on.
        url: Where the archive comes from.
        md5: Its md5 as 32 hexadecimal digits.

    Raises:
        UserError: If the archive cannot be had, is not the expected one, or cannot be written.
    """
    check_folder(root, "--root")
    folder = root / FOLDER
    if is_there(folder, "--root"):
        _check_present(folder)
        report(f"{folder} is already there: nothing to do")
        return folder
    try:
        with _scratch_folder(root) as scratch:
            archive = scratch / "archive.tar.gz"
            _download(url, md5, archive, report)
            _extract(archive, scratch / FOLDER)
            _publish(scratch / FOLDER, folder)
    except OSError as error:
        raise UserError(
            "fetch", f"cannot write {folder} ({error})", remedy=("give a ", Flag("root"), " that can be written")
        ) from error
    report(f"{folder} is complete: the archive's md5 is {md5}")
    return folder


def _publish(made: Path, folder: Path) -> None:
    """Give a folder its name, unless another process was sooner."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        _check_present(folder)


def _check_present(folder: Path) -> None:
    missing = sorted(name for name in BATCHES if not (folder / name).is_file())
    if missing:
        raise UserError(
            "fetch", f"{folder} exists already but lacks {', '.join(missing)}", remedy="move it away and run again"
        )


@contextmanager
def _scratch_folder(root: Path) -> Iterator[Path]:
    """Yield a folder inside `root` that is removed afterwards; on failure so are the parents made for it."""
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".fetch-", dir=root) as name:
            yield Path(name)
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


def _download(url: str, md5: str, path: Path, report: Report) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with _blaming_network(url), urlopen(url, timeout=TIMEOUT) as response, path.open("wb") as file:
        total = int(response.headers.get("Content-Length", 0))
        report(f"downloading {url} ({total / 1e6:.0f} MB)")
        for chunk in _reported(_chunks(response), total, report):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != md5:
        raise UserError(
            "fetch",
            f"{url} gave a file with md5 {digest.hexdigest()}",
            expected=md5,
            remedy="nothing was kept, try again or get the archive by other means",
        )


@contextmanager
def _blaming_network(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            "fetch",
            f"cannot download {url} ({getattr(error, 'reason', None) or error})",
            remedy=(
                "nothing was kept: go online and try again, or download it elsewhere and unpack it so that ",
                Flag("root"),
                f" holds {FOLDER}",
            ),
        ) from error


def _chunks(response: IO[bytes]) -> Iterator[bytes]:
    while chunk := response.read(CHUNK):
        yield chunk


def _reported(chunks: Iterator[bytes], total: int, report: Report) -> Iterator[bytes]:
    """Pass the chunks on with a line for each tenth; raise ConnectionError if they are less than `total`."""
    done, tenths = 0, 1
    for chunk in chunks:
        done += len(chunk)
        yield chunk
        if total and done * 10 >= total * tenths:
            report(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")
            tenths = done * 10 // total + 1
    if done < total:
        raise ConnectionError(f"the transfer broke off after {done:,} of {total:,} bytes")


def _extract(archive: Path, folder: Path) -> None:
    """Copy the expected members out of the archive, whatever else their headers say.

    Only bytes of regular files under names known beforehand are written, so no link, mode, owner or path of
    the archive has any effect. (Debian's Python 3.11 has a tarfile that knows no `filter="data"`.)
    """
    folder.mkdir()
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _copy_member(tar, member, folder)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            "fetch", f"the archive cannot be read ({error})", remedy="nothing was kept, try again"
        ) from error
    missing = sorted(name for name in BATCHES if not (folder / name).is_file())
    if missing:
        raise UserError(
            "fetch", f"the archive lacks {', '.join(missing)}", expected="every batch", remedy="nothing was kept"
        )


def _copy_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    if member.isdir() and member.name == FOLDER:
        return
    name = member.name.removeprefix(f"{FOLDER}/")
    source: IO[Any] | None = tar.extractfile(member) if member.isreg() else None
    if source is None or name == member.name or name not in BATCHES | EXTRAS:
        raise UserError(
            "fetch",
            f"the archive has a member '{member.name}' that CIFAR-10 does not have",
            remedy="it was refused and nothing was kept",
        )
    with source, (folder / name).open("wb") as target:
        shutil.copyfileobj(source, target)
