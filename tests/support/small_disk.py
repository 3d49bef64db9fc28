"""A file system of a few hundred kilobytes, for disks that are full or read-only."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted tmpfs; `folder` is where."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        self.folder = folder
        mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)

    def resize(self, kilobytes: int) -> None:
        """Make it larger or smaller, but not than what it holds."""
        mount("-o", f"remount,size={kilobytes}k", self.folder)

    def read_only(self) -> None:
        """Allow no writing any more."""
        mount("-o", "remount,ro", self.folder)

    def used(self) -> int:
        """Kilobytes that it holds."""
        return sum(path.stat().st_blocks for path in self.folder.rglob("*") if path.is_file()) // 2


def mount(*arguments: str | Path) -> None:
    """Run mount; skip the test where that is not allowed."""
    run = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[SmallDisk]:
    """A small disk at a new folder, for as long as the block runs."""
    folder.mkdir()
    disk = SmallDisk(folder, kilobytes)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
