"""Reads CIFAR-10 from its official batches, pickled or binary, and downloads them."""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.data.unpickle import StoredArray, read_pickled_batch
from landscape_mpi.errors import Flag, UserError
from landscape_mpi.files.paths import FILE, check_folder, found, is_there

BATCH_NAMES: dict[str, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
BATCH_IMAGES = 10_000
CLASSES = 10
PIXELS = 3 * 32 * 32

Bytes = NDArray[np.uint8]
Batch = tuple[Bytes, Bytes]
"""Rows [n, 3072] and labels [n]."""


@dataclass(frozen=True)
class Layout:
    """One of the two official layouts: where its files lie, and how one of them is read."""

    folder: str
    suffix: str
    read: Callable[[Path], Batch]

    def files(self, root: Path, split: str) -> list[Path]:
        """Return the batches of the split that are there, in canonical order."""
        paths = (root / self.folder / (name + self.suffix) for name in BATCH_NAMES[split])
        return [path for path in paths if is_there(path, "data.root") and found(path) == FILE]


def read_cifar10(root: Path, split: str, limit: int | None = None) -> tuple[Bytes, Bytes, tuple[str, ...]]:
    """Return the first images of a split in canonical order, reading no more files than they need.

    Args:
        root: The folder that holds `cifar-10-batches-py` or `cifar-10-batches-bin`.
        split: `train` or `test`.
        limit: The largest number of images; None for all of them.

    Returns:
        The images, uint8 [n, 3, 32, 32], their classes, uint8 [n], and a note if the set is a partial one.

    Raises:
        UserError: If the split is absent, or a file is not what the layout says.
    """
    layout = _find_layout(root, split)
    files = layout.files(root, split)
    wanted = min(limit or BATCH_IMAGES * len(files), BATCH_IMAGES * len(files))
    rows, labels, filled = np.empty((wanted, PIXELS), np.uint8), np.empty(wanted, np.uint8), 0
    for path in files:
        if filled == wanted:
            break
        try:
            batch = layout.read(path)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(path, f"cannot be read ({reason})", expected="a batch of CIFAR-10") from error
        part = slice(filled, min(wanted, filled + len(batch[0])))
        filled = part.stop
        rows[part], labels[part] = (array[: filled - part.start] for array in batch)
    notes: tuple[str, ...] = ()
    if filled < wanted:
        rows, labels = rows[:filled].copy(), labels[:filled].copy()
    if filled < wanted or len(files) < len(BATCH_NAMES[split]):
        names = ", ".join(path.name for path in files) + (" alone" if len(files) == 1 else "")
        total = BATCH_IMAGES * len(BATCH_NAMES[split])
        notes = (f"{names}: {filled} of {total} {'training' if split == 'train' else 'test'} images",)
    return rows.reshape(-1, 3, 32, 32), labels, notes


def _find_layout(root: Path, split: str) -> Layout:
    for layout in LAYOUTS:
        if layout.files(root, split):
            return layout
    other = {"train": "test", "test": "train"}[split]
    if any(layout.files(root, other) for layout in LAYOUTS):
        wanted = BATCH_NAMES[split][0]
        raise UserError(
            "data.splits",
            f"the {split} split of cifar10 is absent: no {wanted} lies beside the {other} split under {root}",
            remedy=f"put it there or write `splits: [{other}]`",
        )
    raise UserError(
        "data.root",
        f"{root} holds neither cifar-10-batches-py nor cifar-10-batches-bin with a batch in it",
        remedy="name the folder that holds one of them, or get one with `fetch cifar10`",
    )


def _read_python_batch(path: Path) -> Batch:
    batch = read_pickled_batch(path)
    missing = [key for key in ("data", "labels") if key not in batch]
    if missing:
        raise UserError(
            path, f"has no {' and no '.join(missing)}, found {sorted(batch)[:9]}", expected="data and labels"
        )
    rows = batch["data"].to_uint8() if isinstance(batch["data"], StoredArray) else None
    if rows is None or rows.shape[1] != PIXELS or len(rows) > BATCH_IMAGES:
        found = "no whole uint8 array of two dimensions" if rows is None else f"shape {list(rows.shape)}"
        raise UserError(path, f"data has {found}", expected=f"uint8 [1 to {BATCH_IMAGES}, {PIXELS}]")
    return rows, _check_labels(path, batch["labels"], len(rows))


def _check_labels(path: Path, labels: object, images: int) -> Bytes:
    if not isinstance(labels, list) or len(labels) != images:
        found = f"{len(labels)} labels" if isinstance(labels, list) else f"labels of type {type(labels).__name__}"
        raise UserError(path, f"has {found} for {images} images", expected="a list of as many")
    for index, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < CLASSES:
            raise _wrong_label(path, index, label)
    return np.array(labels, np.uint8)


def _read_binary_batch(path: Path) -> Batch:
    record, size = 1 + PIXELS, path.stat().st_size
    if size == 0 or size % record or size > record * BATCH_IMAGES:
        raise UserError(
            path,
            f"has {size:,} bytes",
            expected=f"{record} for each of 1 to {BATCH_IMAGES:,} images; the file is truncated or damaged",
        )
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    labels = records[:, 0]
    for index in np.flatnonzero(labels >= CLASSES)[:1]:
        raise _wrong_label(path, int(index), int(labels[index]))
    return records[:, 1:], labels


def _wrong_label(path: Path, index: int, label: object) -> UserError:
    # a hostile file can hold values that cannot even be printed
    found = str(label) if type(label) is int and label.bit_length() < 64 else f"of type {type(label).__name__}"
    return UserError(path, f"image {index} has label {found}", expected=f"a whole number from 0 to {CLASSES - 1}")


LAYOUTS = (
    Layout("cifar-10-batches-py", "", _read_python_batch),
    Layout("cifar-10-batches-bin", ".bin", _read_binary_batch),
)


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
        UserError: If the archive cannot be downloaded, is not the expected one, or cannot be written.
    """
    check_folder(root, Flag("root"))
    folder = root / FOLDER
    if is_there(folder, Flag("root")):
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
    """Give a folder its name, unless another process was faster."""
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
    """Yield a folder inside `root` that is removed afterwards; on failure the parents made for it are removed too."""
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
    """Write what a URL gives to a file, with a line for each tenth, and check its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    done, tenths = 0, 1
    try:
        with urlopen(url, timeout=TIMEOUT) as response, path.open("wb") as file:
            total = int(response.headers.get("Content-Length", 0))
            report(f"downloading {url} ({total / 1e6:.0f} MB)")
            while chunk := response.read(CHUNK):
                digest.update(chunk)
                file.write(chunk)
                done += len(chunk)
                if total and done * 10 >= total * tenths:
                    report(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")
                    tenths = done * 10 // total + 1
        if done < total:
            raise ConnectionError(f"the transfer broke off after {done:,} of {total:,} bytes")
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
    if digest.hexdigest() != md5:
        raise UserError(
            "fetch",
            f"{url} gave a file with md5 {digest.hexdigest()}",
            expected=md5,
            remedy="nothing was kept, try again or get the archive by other means",
        )


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
