"""The damage that `benchmarks/fuzz.py` does, for tests."""

import sys
from importlib import import_module

import pytest


@pytest.fixture(scope="session")
def mutants(checkout):
    """The valid files, their readers and what damages them."""
    sys.path.insert(0, str(checkout / "benchmarks"))
    try:
        return import_module("mutants")
    finally:
        sys.path.remove(str(checkout / "benchmarks"))
