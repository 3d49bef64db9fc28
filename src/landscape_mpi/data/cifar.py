"""CIFAR-10 from its two official layouts on disk; knows numpy, nothing of torch, normalisation or jobs.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. Both layouts hold rows of 3072
bytes: the red plane first, then green, then blue, each 32 x 32 in row-major order.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landscape_mpi.data.unpickle import StoredArray, read_pickled_batch
from landscape_mpi.errors import UserError
from landscape_mpi.files.paths import FILE, found, is_there

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
    images, labels = _gather((_read(layout, path) for path in files), wanted)
    return images.reshape(-1, 3, 32, 32), labels, _notes(files, split, len(images), wanted)


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


def _read(layout: Layout, path: Path) -> Batch:
    try:
        return layout.read(path)
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror or error})", expected="a batch of CIFAR-10") from error


def _gather(batches: Iterable[Batch], wanted: int) -> Batch:
    """Return the first `wanted` rows and labels, or all there are; holds one batch more at a time."""
    rows, labels = np.empty((wanted, PIXELS), np.uint8), np.empty(wanted, np.uint8)
    filled = 0
    for batch_rows, batch_labels in batches:
        part = slice(filled, min(wanted, filled + len(batch_rows)))
        filled = part.stop
        rows[part], labels[part] = (array[: filled - part.start] for array in (batch_rows, batch_labels))
        if filled == wanted:
            return rows, labels
    return rows[:filled].copy(), labels[:filled].copy()


def _notes(files: list[Path], split: str, images: int, wanted: int) -> tuple[str, ...]:
    if len(files) == len(BATCH_NAMES[split]) and images == wanted:
        return ()
    names = ", ".join(path.name for path in files) + (" alone" if len(files) == 1 else "")
    total = BATCH_IMAGES * len(BATCH_NAMES[split])
    return (f"{names}: {images} of {total} {'training' if split == 'train' else 'test'} images",)


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
