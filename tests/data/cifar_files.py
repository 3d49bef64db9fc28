"""CIFAR-10 files made by hand, byte for byte as their layouts have them, with a few random images in each."""

import struct

import numpy as np

BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
COLUMNS = 3072


def random_batch(seed, images=3):
    """Rows uint8 [images, 3072] and labels."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (images, COLUMNS), np.uint8), [int(v) for v in random.integers(0, 10, images)]


def python2_pickle(rows, labels, shape=None, dtype=b"u1", order=b"\x89"):
    """What cPickle of Python 2 wrote at protocol 2, as in the official archive."""
    shape = shape or rows.shape
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            _text(b"batch_label") + b"q\x02" + _text(b"training batch 1 of 5") + b"q\x03",
            _text(b"labels") + b"q\x04]q\x05(" + b"".join(map(_number, labels)) + b"e",
            _text(b"data") + b"q\x06" + b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08",
            b"K\x00\x85U\x01b\x87Rq\x09(K\x01" + _number(shape[0]) + _number(shape[1]) + b"\x86",
            b"cnumpy\ndtype\nq\x0a" + _text(dtype) + b"K\x00K\x01\x87Rq\x0b",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + order,
            b"T" + struct.pack("<i", rows.nbytes) + rows.tobytes() + b"tb",
            _text(b"filenames") + b"q\x0c]q\x0d(" + b"".join(_text(b"%d.png" % i) for i in range(len(rows))) + b"e",
            b"u.",
        ]
    )


def _text(value):
    return b"U" + bytes([len(value)]) + value


def _number(value):
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def binary_records(rows, labels):
    """What the binary layout has: a label and 3072 bytes per image."""
    return b"".join(bytes([label]) + row.tobytes() for row, label in zip(rows, labels, strict=True))


def write_python(root, batches):
    """Write {name: (rows, labels)} as cifar-10-batches-py."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    for name, batch in batches.items():
        (folder / name).write_bytes(python2_pickle(*batch))
    return folder


def write_binary(root, batches):
    """Write {name: (rows, labels)} as cifar-10-batches-bin."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, batch in batches.items():
        (folder / f"{name}.bin").write_bytes(binary_records(*batch))
    return folder
