"""Bytes that survive a power cut; knows nothing of what they mean."""

import os
from pathlib import Path


def make_durable(path: Path) -> None:
    """Wait until what was written to a file, or renamed in a folder, is on its disk.

    Raises:
        OSError: the file system could not do it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
