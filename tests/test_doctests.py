"""The examples in docstrings give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import landscape_mpi

SOURCES = Path(landscape_mpi.__file__).parent

WITH_EXAMPLES = [path for path in sorted(SOURCES.rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_examples_in_docstrings(path, capsys):
    name = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)
    failed, tried = doctest.testmod(importlib.import_module(name.removesuffix(".__init__")))
    assert failed == 0, capsys.readouterr().out
    assert tried > 0
