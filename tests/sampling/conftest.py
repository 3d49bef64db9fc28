"""The emulation is the benchmark's, so that tests and evidence speak of the same thing."""

from importlib import import_module

import pytest
from threadpoolctl import threadpool_limits

LOSSES = "losses-resnet20-17x17.npz"


@pytest.fixture(autouse=True)
def one_thread():
    """One thread for matrix products, as in a sweep; several that wait for each other on busy cores take far longer."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def staircase(checkout, monkeypatch):
    """The benchmark."""
    monkeypatch.syspath_prepend(str(checkout / "benchmarks"))
    return import_module("staircase")


@pytest.fixture
def emulation(staircase, shared_data):
    """N = 50,000 from real per-example losses."""
    if not (shared_data / LOSSES).is_file():
        pytest.skip(f"{LOSSES} is not here")
    return staircase.Emulation.load(shared_data / LOSSES)
