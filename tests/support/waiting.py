"""Waits for what another process does."""

import time


def wait_for(condition, patience=100, every=0.02):
    """Return once the condition, looked at every so many seconds, holds, or the patience, in seconds, is over."""
    deadline = time.monotonic() + patience
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)
