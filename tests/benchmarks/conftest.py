"""The benchmarks are programs beside the package, not part of it."""

from importlib import import_module

import pytest


@pytest.fixture
def benchmark_named(checkout, monkeypatch):
    """Import a benchmark by its name."""
    monkeypatch.syspath_prepend(str(checkout / "benchmarks"))
    return import_module
