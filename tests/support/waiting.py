"""Waits for what another process does."""

import time


def wait_for(condition, patience=100):
    """Return once the condition holds, or the patience, in seconds, is over."""
    deadline = time.monotonic() + patience
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
