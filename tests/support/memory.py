"""Reads how much memory this process has of its own: what no file could give back."""

from pathlib import Path


def anonymous() -> int:
    """Return the bytes of memory that are this process's own now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
